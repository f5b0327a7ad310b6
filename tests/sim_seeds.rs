//! Running a test with many seeds: which ones, and what is printed when one fails. The tests here
//! run their own program again, because all of this is between a program and its environment.

use std::process::{Command, Output};
use std::time::Duration;

use hotloop::sim::{self, NodeOptions, Script, World};
use hotloop::{ConnId, Handler, Net};

struct Sink;

impl Handler for Sink {
    fn on_data(&mut self, _: &mut Net, _: ConnId, data: &[u8]) -> usize {
        data.len()
    }
}

#[test]
fn a_failing_run_prints_its_seed_and_its_trace_and_replays() {
    let (output, text) = run_alone("fails_for_some_seeds", &[]);
    assert!(!output.status.success(), "500 seeds, and none drew a multiple of 8:\n{text}");
    let (_, after) = text.split_once("to replay it: HOTLOOP_SEED=").expect(&text);
    let seed = after.lines().next().expect("a number").trim();
    assert!(text.contains("server: accept") && text.contains("drew "), "{text}");
    let (output, replayed) = run_alone("fails_for_some_seeds", &[("HOTLOOP_SEED", seed)]);
    assert!(!output.status.success(), "{replayed}");
    let traced = |text: &str| {
        let lines = text.lines().filter(|line| line.contains("s server: "));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert!(replayed.contains(&format!("HOTLOOP_SEED={seed}")), "{replayed}");
    assert_eq!(traced(&text), traced(&replayed));
}

#[test]
fn the_environment_chooses_the_seeds() {
    let seeds_run = |variables: &[(&str, &str)]| {
        let (output, text) = run_alone("prints_its_seeds", variables);
        assert!(output.status.success(), "{text}");
        let seeds = text.lines().filter_map(|line| line.strip_prefix("running seed "));
        seeds.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(seeds_run(&[]).len(), 3);
    assert_eq!(seeds_run(&[("HOTLOOP_SEEDS", "7")]).len(), 7);
    assert_eq!(seeds_run(&[("HOTLOOP_SEED", "42"), ("HOTLOOP_SEEDS", "7")]), ["42"]);
    assert_ne!(seeds_run(&[]), seeds_run(&[]), "fresh ones each time");
    let (output, text) = run_alone("prints_its_seeds", &[("HOTLOOP_SEED", "no number")]);
    assert!(!output.status.success() && text.contains("HOTLOOP_SEED"), "{text}");
}

#[test]
#[ignore = "fails for one seed in eight, for the test that runs it"]
fn fails_for_some_seeds() {
    sim::for_seeds(500, |seed| {
        let mut world = World::new(seed);
        let server = world.node("server", NodeOptions::default(), Sink);
        let client = world.host("client");
        let addr = world.addr(server, 7);
        world.net(server).listen(addr).expect("nobody else has the port");
        world.play(client, addr, Script::new().send("hello"));
        world.run_for(Duration::from_secs(1));
        let drawn = world.random();
        assert!(drawn % 8 != 0, "drew {drawn}");
    });
}

#[test]
#[ignore = "prints its seeds, for the tests that run it"]
fn prints_its_seeds() {
    sim::for_seeds(3, |seed| eprintln!("running seed {seed}"));
}

/// Runs one of the tests above, which are there to be run as a program of their own.
fn run_alone(test: &str, variables: &[(&str, &str)]) -> (Output, String) {
    let binary = std::env::current_exe().expect("a test is a file");
    let mut command = Command::new(binary);
    command.args(["--exact", "--ignored", "--nocapture", test]);
    command.env_remove("HOTLOOP_SEED").env_remove("HOTLOOP_SEEDS").env("RUST_BACKTRACE", "0");
    command.envs(variables.iter().copied());
    let output = command.output().expect("it can be run");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    (output, text)
}
