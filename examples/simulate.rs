//! A small server with a mistake in it, and the test that finds it: seeds of a simulated world.
//! Shows a handler that passes the test everybody writes, a run that fails under a seed, its
//! trace, which says why, and that the mended handler passes under all of the seeds.
//!
//! Try it: `cargo run --example simulate`. One failing seed again: `HOTLOOP_SEED=<seed>` before it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use hotloop::sim::{Fault, Faults, Link, NodeOptions, Script, World, for_seeds};
use hotloop::{ConnId, Handler, Net};

/// Sends back every frame in upper case. A frame is one byte with a length and so much text.
struct Upper {
    is_mended: bool,
}

impl Handler for Upper {
    fn on_data(&mut self, net: &mut Net, conn: ConnId, data: &[u8]) -> usize {
        let mut used = 0;
        while let Some(&length) = data.get(used) {
            let (start, end) = (used + 1, used + 1 + usize::from(length));
            let Some(text) = data.get(start..end) else {
                if !self.is_mended {
                    // The mistake: the length is consumed though its text is not there yet.
                    used = start;
                }
                break;
            };
            net.write(conn, &[&[length], &*text.to_ascii_uppercase()].concat());
            used = end;
        }
        used
    }
}

/// The conversation: three frames, their answers, and the end.
fn converse(seed: u64, upper: Upper, link: Link, faults: Faults) {
    let mut world = World::new(seed);
    world.default_link(link);
    let server = world.node("server", NodeOptions::default().faults(faults), upper);
    let addr = world.addr(server, 9000);
    world.net(server).listen(addr).expect("the port is free");
    let host = world.host("client");
    let script = Script::new()
        .send(*b"\x05hello\x05world")
        .send(*b"\x00\x03!!!")
        .expect(*b"\x05HELLO\x05WORLD\x00\x03!!!")
        .finish()
        .expect_end();
    let client = world.play(host, addr, script);
    let within = Duration::from_secs(60);
    world.run_until("the end of the script", within, |world| world.state(client).is_done);
}

/// Any link, and a machine that now and then returns less than there is.
fn converse_in_bad_weather(seed: u64, is_mended: bool) {
    let link = match seed % 4 {
        0 => Link::lan(),
        1 => Link::wifi(),
        2 => Link::mobile(),
        _ => Link::intercontinental(),
    };
    let faults = Faults::mild().of(Fault::ShortRead, 0.2);
    converse(seed, Upper { is_mended }, link, faults);
}

fn main() {
    // What everybody tests: a fast network on which every write arrives as one piece.
    converse(1, Upper { is_mended: false }, Link::instant(), Faults::none());
    println!("On a network without faults the server works.\n");

    let find = || for_seeds(1000, |seed| converse_in_bad_weather(seed, false));
    let found = catch_unwind(AssertUnwindSafe(find));
    assert!(found.is_err(), "a thousand seeds have not found the mistake");
    println!("\nThat is the mistake: found, with a seed that repeats it. Mended:\n");

    for_seeds(1000, |seed| converse_in_bad_weather(seed, true));
    println!("The mended server passes.");
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_mistake_is_found_and_the_mended_server_passes() {
        super::main();
    }
}
