//! Both sides of a network that is hurt: a server and two hundred framed clients, each with its
//! loop and its process. `.ci/hurt` puts a network between them, hurts it, and judges what they
//! say; what is sent where, and what each group has against a peer that is gone, is in `groups`.
//! On Linux: so is the script.
#![cfg(target_os = "linux")]

mod client;
mod groups;
#[path = "../support/random.rs"]
mod random;
mod report;
mod server;
mod side;
mod stream;

use std::env;

use client::Client;
use server::Server;

/// The server's address.
const ADDR: &str = "HOTLOOP_HURT_ADDR";

fn addr() -> String {
    env::var(ADDR).unwrap_or_else(|_| panic!("{ADDR} is not set: .ci/hurt runs this"))
}

#[test]
#[ignore = "a side of the hurt network, for .ci/hurt, which runs it"]
fn serve() {
    println!();
    print_groups();
    side::run(|inbox| Server::new(addr(), inbox));
}

#[test]
#[ignore = "a side of the hurt network, for .ci/hurt, which runs it"]
fn dial() {
    println!();
    side::run(|inbox| Client::new(&addr(), inbox));
}

/// Tells the script who takes part.
fn print_groups() {
    println!("limit seconds={}", groups::LIMIT.as_secs());
    for group in groups::GROUPS {
        let (name, port, conns) = (group.name, group.port, group.conns);
        println!("group name={name} port={port} conns={conns}");
    }
}
