//! A server under everything at once, for as long as it is told: does it leak, stall, or err?
//!
//! Run it: `cargo bench --bench soak -- MINUTES`. One loop serves, another one is the clients: ones
//! that stay, that come and go by FIN, by half-close and by reset, that read slowly or never, that
//! send more than is taken, garbage, or nothing. Every byte is checked at both ends. Once a minute
//! a line is printed with memory, descriptors, connections, slots, lag and errors. It fails if a
//! byte was wrong, if a connection ended for a reason that its story does not give, if anything
//! was still held at the end, or if memory grew.

#![cfg_attr(not(target_os = "linux"), allow(dead_code, unused, reason = "it reads proc(5)"))]

mod chance;
mod crowd;
mod lag;
mod process;
#[path = "../../tests/support/random.rs"]
#[allow(unused_imports, reason = "its tests are compiled without a harness")]
mod random;
mod report;
mod roles;
mod server;
mod settings;
mod side;
mod wire;

use std::io;
use std::process::ExitCode;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use hotloop::{Mailbox, PostError};

use crowd::Crowd;
use report::Report;
use server::{PRODUCERS, Post, Ready};
use settings::{Settings, USAGE};
use side::{Phase, Shared};

/// How often each producer posts to the server.
const POST_EVERY: Duration = Duration::from_millis(2);
const SAMPLE_EVERY: Duration = Duration::from_secs(1);

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("NOT RUN: the soak reads memory and descriptors from proc(5), which is Linux's");
}

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    let settings = match Settings::read() {
        Ok(settings) => settings,
        Err(why) => {
            eprintln!("{why}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match run(&settings) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("the soak itself has failed: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs it all, and returns whether everything was as it should be.
fn run(settings: &Settings) -> io::Result<bool> {
    println!("{settings:?}");
    let descriptors = process::descriptors()?;
    let shared = Arc::new(Shared::new(settings.chaos.is_some()));
    // A loop stays on the thread that has made it.
    let (tell, told) = mpsc::channel();
    let server = {
        let (shared, seed) = (Arc::clone(&shared), settings.seed);
        thread::spawn(move || -> io::Result<_> {
            let ready = Ready::new(&shared, seed)?;
            // Nobody listens only if this run is over already.
            drop(tell.send((ready.addrs, ready.mailbox.clone())));
            ready.run()
        })
    };
    let Ok((addrs, mailbox)) = told.recv() else {
        let error = server.join().expect("the server's loop does not panic").err();
        return Err(error.unwrap_or_else(|| io::Error::other("the server has not begun")));
    };
    let crowd = {
        let (shared, settings) = (Arc::clone(&shared), settings.clone());
        thread::spawn(move || Crowd::new(&shared, addrs, &settings)?.run())
    };
    let producers: Vec<_> = (0..PRODUCERS)
        .map(|producer| {
            let (mailbox, shared) = (mailbox.clone(), Arc::clone(&shared));
            thread::spawn(move || produce(&mailbox, &shared, producer))
        })
        .collect();
    drop(mailbox);

    let mut report = Report::new(settings, descriptors);
    let began = Instant::now();
    for minute in 1..=settings.minutes {
        while began.elapsed() < Duration::from_secs(60) * minute {
            thread::sleep(SAMPLE_EVERY);
            report.sample()?;
        }
        report.minute(minute, &shared)?;
    }
    shared.set_phase(Phase::Drain);
    let posted: Vec<u64> =
        producers.into_iter().map(|thread| thread.join().expect("it does not panic")).collect();
    crowd.join().expect("the clients' loop does not panic")?;
    shared.set_phase(Phase::Empty);
    let seen = server.join().expect("the server's loop does not panic")?;
    report.posts(&posted, &seen);
    report.end(&shared)
}

/// Posts numbers in order until the load ends; returns how many.
fn produce(mailbox: &Mailbox<Post>, shared: &Shared, producer: usize) -> u64 {
    let mut number = 0;
    while shared.phase() == Phase::Load {
        match mailbox.post(Post { producer, number }) {
            Ok(()) => number += 1,
            // It is full: the same one again, later.
            Err(PostError::Full(_)) => {}
            Err(_) => break,
        }
        thread::sleep(POST_EVERY);
    }
    number
}
