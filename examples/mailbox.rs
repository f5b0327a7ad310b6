//! Factors numbers: threads do the work and post the results into the loop.
//!
//! Shows a loop that does not wait for work: a client with a hard number delays nobody. The next
//! line of a connection is not looked at before its answer is there, so that answers come in
//! order. Jobs are counted, and the mailbox has room for all: a post is never refused.
//!
//! Try it: `cargo run --release --example mailbox`, then `nc 127.0.0.1 9005` and type numbers; a
//! prime of 18 digits takes seconds. Another address is given as the first argument.

use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::{env, io, thread};

use hotloop::{Config, ConnId, Handler, Inbox, Loop, Mailbox, Net};

const WORKERS: usize = 4;
/// How many may be without an answer that was taken out of the inbox; more are turned away.
const JOBS: usize = 1024;

type Job = (ConnId, u64);
type Answer = (ConnId, String);

struct Factors {
    jobs: Sender<Job>,
    answers: Inbox<Answer>,
    unanswered: usize,
}

impl Handler for Factors {
    fn on_data(&mut self, net: &mut Net, conn: ConnId, data: &[u8]) -> usize {
        let mut used = 0;
        while let Some(len) = data[used..].iter().position(|byte| *byte == b'\n') {
            let line = String::from_utf8_lossy(&data[used..used + len]);
            used += len + 1;
            match line.trim().parse() {
                Err(_) => _ = net.write(conn, b"not a number below 2^64\n"),
                Ok(_) if self.unanswered == JOBS => _ = net.write(conn, b"busy\n"),
                Ok(number) => {
                    self.jobs.send((conn, number)).expect("the workers end after the handler");
                    self.unanswered += 1;
                    // The rest of the data comes again when the answer has resumed it.
                    net.pause_reading(conn);
                    break;
                }
            }
        }
        used
    }

    fn on_wake(&mut self, net: &mut Net) {
        for (conn, answer) in self.answers.drain(net) {
            self.unanswered -= 1;
            // A client that has gone meanwhile has a stale id: this does nothing then.
            net.write(conn, answer.as_bytes());
            net.resume_reading(conn);
        }
    }
}

/// Does jobs until the handler, or the loop, is gone.
fn work(jobs: &Mutex<Receiver<Job>>, answers: &Mailbox<Answer>) {
    // Not in the `while` itself, which would hold the lock during the work.
    let next = || jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
    while let Ok((conn, number)) = next() {
        if answers.post((conn, format!("{number} = {}\n", factors(number)))).is_err() {
            return;
        }
    }
}

fn factors(mut number: u64) -> String {
    let (mut factors, mut divisor) = (Vec::new(), 2);
    while divisor <= number / divisor {
        while number % divisor == 0 && number > divisor {
            factors.push(divisor.to_string());
            number /= divisor;
        }
        divisor += 1;
    }
    factors.push(number.to_string());
    factors.join(" * ")
}

fn main() -> io::Result<()> {
    env_logger::init();
    let address = env::args_os().nth(1).unwrap_or_else(|| "127.0.0.1:9005".into());
    let mut event_loop = Loop::new(Config::default())?;
    let listener = event_loop.net().listen(&*address.to_string_lossy())?;
    let (mailbox, inbox) = event_loop.net().mailbox(JOBS)?;
    let (sender, receiver) = mpsc::channel();
    let receiver = Arc::new(Mutex::new(receiver));
    for _ in 0..WORKERS {
        let (jobs, answers) = (Arc::clone(&receiver), mailbox.clone());
        thread::spawn(move || work(&jobs, &answers));
    }
    let bound = event_loop.net().listener_addr(listener).ok_or(io::ErrorKind::AddrNotAvailable)?;
    println!("listening on {bound}");
    event_loop.run(&mut Factors { jobs: sender, answers: inbox, unanswered: 0 })
}
