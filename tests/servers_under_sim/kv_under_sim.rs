//! `examples/kv` answers every command once, in order and right, whatever the network does.

use hotloop::ConnOptions;
use hotloop::sim::{Fault, Link, Report, Script, for_seeds};

use crate::circumstances::{LIMIT, Place, below};
use crate::kv::Kv;
use crate::kv_clients::Client;

#[test]
fn kv_answers_pipelines_that_are_cut_anywhere_as_a_model_of_it_does() {
    for_seeds(60, |seed| {
        run(seed);
    });
}

#[test]
fn what_kv_goes_through_has_every_fault_in_it() {
    let mut sum = Report::default();
    for seed in 0..60 {
        sum.add(&run(seed));
    }
    // A kv makes no connections of its own.
    let elsewhere = [Fault::ConnectError, Fault::SelfConnect];
    let is_missing = |(kind, count): &(Fault, u64)| *count == 0 && !elsewhere.contains(kind);
    let missing: Vec<_> = sum.faults().filter(is_missing).collect();
    assert!(missing.is_empty(), "never happened: {missing:?}");
}

/// What the `main` of the example sets.
fn options() -> ConnOptions {
    let batch_bytes = 64 << 10;
    let hard_limit_bytes = 2 * (batch_bytes + (1 << 20));
    ConnOptions::default().high_water_bytes(batch_bytes).hard_limit_bytes(hard_limit_bytes)
}

fn run(seed: u64) -> Report {
    let mut place = Place::new(seed, Kv::default(), options());
    let count = 1 + below(&mut place.world, 8);
    let mut clients: Vec<Client> = (0..count).map(|name| Client::new(&mut place, name)).collect();
    while clients.iter().any(|client| !client.is_done) {
        let next = below(&mut place.world, count);
        clients[next].go_on(&mut place);
        place.pass_time();
    }
    place.calm();
    place.run_until("the last reply", |place| clients.iter().all(|client| client.has_ended(place)));
    check(&mut place, &clients);
    place.assert_all_gone();
    place.world.report()
}

/// Checks all replies, and that the counts of the shared counter are those of one counter.
fn check(place: &mut Place<Kv>, clients: &[Client]) {
    let (mut counts, mut missing) = (Vec::new(), 0);
    for client in clients {
        let compared = client.check(place);
        assert!(compared.counts.is_sorted(), "a counter went back: {:?}", compared.counts);
        missing += client.counts_wanted() - compared.counts.len();
        counts.extend(compared.counts);
    }
    counts.sort_unstable();
    let end = read_counter(place);
    let is_dense = |pair: &[u64]| pair[0] < pair[1];
    assert!(counts.windows(2).all(is_dense), "a count was given twice: {counts:?}");
    assert!(counts.last().is_none_or(|last| *last <= end), "{counts:?}, but the end is {end}");
    let unseen = end - counts.len() as u64;
    assert!(unseen <= missing as u64, "{unseen} counts went to nobody, {missing} are missing");
}

fn read_counter(place: &mut Place<Kv>) -> u64 {
    let host = place.world.host("auditor");
    place.world.link(host, place.server, Link::instant());
    let script = Script::new().send("get shared\r\n").finish();
    let peer = place.world.play(host, place.addr, script);
    place.world.run_until("the counter", LIMIT, |world| world.state(peer).read_closed);
    let received = String::from_utf8(place.world.received(peer)).expect("text");
    let number = received.lines().nth(1).map(|text| text.parse().expect("a number"));
    number.unwrap_or(0)
}
