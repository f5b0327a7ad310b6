//! How to test your handler: the real loop over a simulated kernel, network and clock.
//!
//! A [`World`] has hosts, links between them and a clock, all of them made up. A host runs
//! *your* handler, unchanged, on *the* loop of this crate: only the system calls are answered by a
//! simulation. Everything it answers, and everything that goes wrong, is drawn from one number,
//! the seed. So a mistake that shows itself once in a million runs, when a message is cut at its
//! third byte while another client resets, shows itself again whenever that seed is run, and an
//! hour of such network passes in seconds.
//!
//! # The first test
//!
//! ```
//! use std::time::Duration;
//!
//! use hotloop::sim::{NodeOptions, Script, World};
//! use hotloop::{ConnId, Handler, Net};
//!
//! /// Answers each line with its length.
//! struct Lengths;
//!
//! impl Handler for Lengths {
//!     fn on_data(&mut self, net: &mut Net, conn: ConnId, data: &[u8]) -> usize {
//!         let mut used = 0;
//!         while let Some(length) = data[used..].iter().position(|byte| *byte == b'\n') {
//!             net.write(conn, format!("{length}\n").as_bytes());
//!             used += length + 1;
//!         }
//!         used
//!     }
//! }
//!
//! let mut world = World::new(1);
//! let server = world.node("server", NodeOptions::default(), Lengths);
//! let addr = world.addr(server, 9000);
//! world.net(server).listen(addr)?;
//!
//! let host = world.host("client");
//! let script = Script::new().send("one\nthree\n").expect("3\n5\n").finish().expect_end();
//! let client = world.play(host, addr, script);
//! world.run_until("the end of the script", Duration::from_secs(10), |world| {
//!     world.state(client).is_done
//! });
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # Many seeds
//!
//! One seed is one course of events. [`for_seeds`] runs a test with fresh ones, on all cores, and
//! a bad network and a bad host make them differ:
//!
//! ```
//! use std::time::Duration;
//!
//! use hotloop::sim::{self, Faults, Link, NodeOptions, Script, World};
//! # use hotloop::{ConnId, Handler, Net};
//! # struct Echo;
//! # impl Handler for Echo {
//! #     fn on_data(&mut self, net: &mut Net, conn: ConnId, data: &[u8]) -> usize {
//! #         net.write(conn, data);
//! #         data.len()
//! #     }
//! # }
//!
//! fn every_byte_comes_back_over_a_bad_network() {
//!     sim::for_seeds(100, |seed| {
//!         let mut world = World::new(seed);
//!         world.default_link(Link::wifi());
//!         let options = NodeOptions::default().faults(Faults::mild());
//!         let server = world.node("server", options, Echo);
//!         let addr = world.addr(server, 7);
//!         world.net(server).listen(addr).expect("the port is free");
//!         let host = world.host("client");
//!         let script = Script::new().send("hello").finish().expect("hello").expect_end();
//!         let client = world.play(host, addr, script);
//!         world.run_until("the echo", Duration::from_secs(60), |world| {
//!             world.state(client).is_done
//!         });
//!     });
//! }
//! # every_byte_comes_back_over_a_bad_network();
//! ```
//!
//! `HOTLOOP_SEEDS=20000 cargo test` runs as many of them. Choices of the test itself (how many
//! clients, who sends next) come from [`World::random`]: then the seed repeats them, too.
//!
//! # A failing seed
//!
//! A seed fails when anything panics: an assertion of the test, a script that reads what it does
//! not expect, a [`World::run_until`] whose time is up, the handler itself, or [`Checked`], which
//! is around every handler here and knows the rules of the [contract](crate#the-contract). Then
//! the seed and the end of the trace are printed, with `HOTLOOP_TRACE=all` the whole of it.
//! `HOTLOOP_SEED=<seed> cargo test <name>` runs that one alone, as often as you like, with the same
//! trace byte for byte.
//!
//! `examples/simulate.rs` is such a story: a server that passes the test that everybody writes,
//! the seed that fails, and what its trace says.
//!
//! # Peers and scripts
//!
//! A [`Peer`] is a bare end of a connection, with no loop: what the other side of your protocol
//! may do, and should not. [`World::play`] has it follow a [`Script`], which sends, expects bytes
//! to the letter, waits, stops reading, sends urgent data, finishes or resets;
//! [`World::serve`] has it listen, for handlers that connect. [`World::connect`] leaves the doing
//! to the test, step by step:
//!
//! ```
//! # use std::time::Duration;
//! # use hotloop::sim::{NodeOptions, World};
//! # use hotloop::{ConnId, Handler, Net};
//! # struct Echo;
//! # impl Handler for Echo {
//! #     fn on_data(&mut self, net: &mut Net, conn: ConnId, data: &[u8]) -> usize {
//! #         net.write(conn, data);
//! #         data.len()
//! #     }
//! # }
//! # let mut world = World::new(1);
//! # let server = world.node("server", NodeOptions::default(), Echo);
//! # let addr = world.addr(server, 7);
//! # world.net(server).listen(addr)?;
//! # let host = world.host("client");
//! let slow = world.connect(host, addr);
//! world.stop_reading(slow);
//! world.send(slow, &[0; 400_000]);
//! world.run_for(Duration::from_secs(1));
//! assert!(world.net(server).stats().queued_bytes > 0, "what it does not read is queued");
//!
//! world.start_reading(slow);
//! world.finish(slow);
//! world.run_until("the rest", Duration::from_secs(10), |world| world.state(slow).read_closed);
//! assert_eq!(world.received(slow).len(), 400_000);
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! Between turns the test may look into everything: [`World::handler`] is your handler,
//! [`World::net`] what its callbacks are given, [`World::call`] both at once. Several nodes with
//! different handlers make a system: a proxy between clients and a server, a leader and its
//! followers. [`World::shut`] ends a process, [`World::crash`] a host.
//!
//! # Links and faults
//!
//! A [`Link`] is what the network does: latency, jitter, bandwidth, loss (which TCP makes good,
//! late), connects that are refused or vanish. Begin with a preset: [`Link::lan`] is the default,
//! [`Link::wifi`] and [`Link::mobile`] are what players have. [`World::partition`] cuts it, in one
//! direction or both, until [`World::heal`].
//!
//! [`Faults`] are what a host does to its loop. [`Faults::mild`] ends no connection: reads and
//! writes that are short or blocked for no reason, events that are late, spurious, stale or out of
//! order. A handler must not notice, and every byte must arrive. [`Faults::harsh`] has resets and
//! errors of all calls as well: then what arrived must be a beginning of what was sent.
//! [`Faults::of`] sets one [`Fault`] to a probability. [`World::report`] counts what happened, so
//! that a test can tell that it met what it is for.
//!
//! Both [`Dialect`]s are worth running: `Readiness` is how epoll speaks to the loop, `Completion`
//! how io_uring does. Small buffers ([`NodeOptions::send_buffer_bytes`],
//! [`World::set_buffers`]) cut messages at every byte, and [`World::starting_at`] begins at any
//! uptime.
//!
//! # Reading a trace
//!
//! [`World::trace`] has a line for every event: when, on which host, and what.
//!
//! ```text
//! 1.182059912s client: peer :32768 to server:9000 sends 5
//! 1.273040899s server: data 1 client:32768 > server:9000
//! 1.274052911s server: data 4 client:32768 > server:9000
//! 1.274052911s server: turn
//! 1.274052911s server: wait = 1 events
//! 1.274052911s server: fault ShortRead
//! 1.274052911s server: recv conn#0.1 = 3 bytes
//! 1.274052911s server: on_data conn#0.1 3
//! 1.274052911s server: recv conn#0.1 = 1 bytes, drained
//! 1.274052911s server: on_data conn#0.1 3
//! ```
//!
//! That is from `examples/simulate.rs`, where a frame is a byte with a length and so much text. The
//! client sends an empty frame and one of three characters, and they arrive one by one. A short
//! read is injected, so the handler is shown three of the second frame's four bytes, and then
//! three again: it has consumed the length although the text was not complete, so that two bytes
//! were kept and one came. It takes the first character for a length, and waits for a frame that
//! nobody sends. By its form a line is:
//!
//! - `call id = answer`, a system call of a loop, and what its kernel answered;
//! - `on_… id number`, a callback: with `on_data` the number is that of the bytes shown, with
//!   `on_timer` the token;
//! - `packet bytes from > to`, what arrives on a host: `SYN`, `data`, `FIN`, `RST` …;
//! - `peer …`, what a peer without a loop does;
//! - `fault kind`, what the simulation did on purpose just before the next line;
//! - `turn`, where a turn begins.
//!
//! # What it does not show
//!
//! - **How fast it is.** Time is made up: a turn costs what [`NodeOptions::turn_cost`] says.
//! - **TCP's own dynamics.** No congestion control, no slow start, no delayed acknowledgements, no
//!   Nagle: bytes come whole and in order, late by what the link draws. Segments are of any size.
//! - **The kernel's memory.** Buffers are as large as you say; nothing is tuned or reclaimed.
//! - **Socket options**, which are accepted and do nothing, and IPv6: hosts have IPv4 addresses.
//! - **Real threads.** A [`Waker`](crate::Waker) works, but when another thread uses it is not
//!   drawn from the seed.
//!
//! So a few tests over real sockets remain worth having, and benchmarks.
//!
//! # What a handler must do to be repeatable
//!
//! The same seed gives the same run only if the handler has no other source of chance:
//!
//! - time from [`Net::now`](crate::Net::now) and timers, never `Instant::now`;
//! - random numbers from a generator that the test gives a seed;
//! - no walking through a `HashMap` or `HashSet`, whose order differs from run to run, where the
//!   order shows: `BTreeMap` and [`ConnMap`](crate::ConnMap) have one;
//! - no threads, files or sockets of its own;
//! - no addresses of memory, process numbers or environment in what it sends.
//!
//! # Beyond tests
//!
//! [`Checked`] also goes around a handler on a real loop, in staging for example:
//! `event_loop.run(&mut Checked::new(handler))`. It costs little and names the rule that breaks.
//!
//! [`Checked`]: crate::Checked

#![allow(
    clippy::indexing_slicing,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::unreachable,
    reason = "a test's world: what is impossible in it is a mistake to show"
)]

mod links;
mod node;
mod peers;
mod seeds;
mod world;

pub use crate::backend::sim::{Dialect, Link, NodeOptions, PeerState, Progress, Report, Script};
pub use crate::fault::{Fault, FaultCounts, Faults};
pub use node::{Host, Node};
pub use peers::Peer;
pub use seeds::for_seeds;
pub use world::World;
