//! The same script of operations on every backend: what the handler is told and what the peers
//! receive agree.
//!
//! A script is drawn from a seed and played on the simulator first, where it is settled after
//! every step. Every other backend then has to come to the same state after every step, and to
//! stay there at the end. Every byte, in both directions, is checked against what was written, by
//! its place. What the contract leaves open is not compared: into how many `on_data` a stream is
//! cut, and the order of callbacks about different connections.
//!
//! Each run takes fresh seeds. `HOTLOOP_SEEDS=n` sets how many, `HOTLOOP_SEED=x` runs one. A seed
//! that fails is made as small as it gets; `HOTLOOP_SHRINK=0` leaves that out.
#![allow(unreachable_pub, reason = "a test binary has no outside")]
#![allow(clippy::cast_possible_truncation, reason = "what is drawn is below a bound that fits")]

#[path = "../support/mod.rs"]
mod support;

#[path = "../support/leave_out.rs"]
mod leave_out;
#[path = "../support/random.rs"]
mod random;

mod cast;
mod play;
mod script;

use std::collections::BTreeMap;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use hotloop::sim::for_seeds;

use cast::Told;
use leave_out::leave_out;
use play::{agrees, reference};
use script::{Step, draw};
use support::{Kind, errno};

/// How many seeds each kind takes if nothing is said.
const SEEDS: u64 = 40;
/// How often it is looked for a state before it is said to be never reached: ten milliseconds each.
const LOOKS: u32 = 2000;
/// While a script is made smaller.
const LOOKS_FEW: u32 = 100;
/// How many scripts making one smaller may take.
const TRIES_MAX: usize = 150;

static DONE: AtomicU64 = AtomicU64::new(0);
static STEPS_DONE: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);

/// Returns what a script fails with.
fn failure(kind: Kind, script: &[Step], looks: u32) -> Option<String> {
    let play = || agrees(kind, &reference(script), looks);
    let cause = panic::catch_unwind(AssertUnwindSafe(play)).err()?;
    let text = cause.downcast_ref::<String>().cloned();
    Some(text.or_else(|| cause.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default())
}

fn run(kind: Kind, seed: u64) {
    static FAILED: Mutex<Vec<u64>> = Mutex::new(Vec::new());
    let script = draw(seed);
    let Some(why) = failure(kind, &script, LOOKS) else { return };
    let is_alone = {
        let mut failed = FAILED.lock().expect("nobody panics with it");
        let is_known = failed.contains(&seed);
        failed.push(seed);
        is_known || std::env::var_os("HOTLOOP_SEED").is_some()
    };
    if is_alone && std::env::var("HOTLOOP_SHRINK").as_deref() != Ok("0") {
        explain(kind, script);
    }
    panic!("seed {seed} on {kind:?}: {why}");
}

/// Prints the smallest script that fails.
fn explain(kind: Kind, script: Vec<Step>) {
    let mut tries = 0;
    let mut why = String::from("it passed when it was played again");
    let small = leave_out(script, |candidate| {
        tries += 1;
        let found = (tries <= TRIES_MAX).then(|| failure(kind, candidate, LOOKS_FEW)).flatten();
        found.map(|cause| why = cause).is_some()
    });
    println!("the smallest script that fails: {why}");
    for step in small {
        println!("  {step:?}");
    }
}

fn scripts_come_to_the_same_end(kind: Kind) {
    for_seeds(SEEDS, |seed| run(kind, seed));
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let (plays, steps, bytes) = (count(&DONE), count(&STEPS_DONE), count(&BYTES));
    println!("{kind:?}: so far {plays} scripts agree; with those of the simulator, to which they");
    println!("are held, {steps} steps and {bytes} bytes checked");
}

/// A script that does nothing would agree with everything.
#[test]
fn the_scripts_do_what_they_are_there_for() {
    let mut seen = BTreeMap::new();
    for seed in 0..300 {
        let played = reference(&draw(seed));
        let state = &played.last().expect("there are steps").1;
        for told in state.conns.iter().flat_map(|(told, _)| told) {
            let name = match told {
                Told::Close(reason, dropped) => {
                    *seen.entry(format!("dropped: {}", *dropped > 0)).or_insert(0) += 1;
                    format!("{reason:?}")
                }
                other => format!("{other:?}").split('(').next().unwrap_or("").to_owned(),
            };
            *seen.entry(name).or_insert(0) += 1;
        }
        for sent in state.conns.iter().flat_map(|(_, sent)| sent) {
            *seen.entry(format!("{sent:?}")).or_insert(0) += 1;
        }
        *seen.entry(String::from("timers")).or_insert(0) += state.timers.len();
    }
    for name in [
        "Accept",
        "Connect",
        "Consumed",
        "Writable",
        "ReadClosed",
        "Released",
        "NotAdopted",
        "PeerClosed",
        "Reset",
        "LocalClose",
        "LocalAbort",
        "Limit(Inbound)",
        "Limit(Outbound)",
        "Timeout(Idle)",
        &format!("ConnectFailed(Errno({}))", errno::ECONNREFUSED),
        "dropped: true",
        "dropped: false",
        "Queued",
        "Pressured",
        "Refused",
        "Closed",
        "timers",
    ] {
        assert!(seen.get(name).is_some_and(|count| *count >= 5), "{name}: {seen:?}");
    }
}

on_every_backend!(scripts_come_to_the_same_end);
