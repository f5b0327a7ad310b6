//! Sends back what it receives.
//!
//! Shows back-pressure in both directions: a client that does not read what it is sent is not
//! read from either, so that it slows itself down and nobody else.
//!
//! Try it: `cargo run --release --example echo`, then `nc 127.0.0.1 9000` and type. With
//! `RUST_LOG=debug` it tells who comes and goes; another address is given as the first argument.

use std::{env, io};

use hotloop::{CloseReason, Config, ConnId, Handler, ListenerId, Loop, Net, Sent};

pub(crate) struct Echo;

impl Handler for Echo {
    fn on_accept(&mut self, net: &mut Net, conn: ConnId, _: ListenerId) {
        if let Some(peer) = net.peer_addr(conn) {
            log::debug!("{conn}: {peer}");
        }
    }

    fn on_data(&mut self, net: &mut Net, conn: ConnId, data: &[u8]) -> usize {
        match net.write(conn, data) {
            Sent::Queued => data.len(),
            Sent::Pressured => {
                net.pause_reading(conn);
                data.len()
            }
            // Nothing was taken, so nothing is consumed: the same bytes come again on resuming.
            Sent::Refused => {
                net.pause_reading(conn);
                0
            }
            Sent::Closed => 0,
        }
    }

    fn on_writable(&mut self, net: &mut Net, conn: ConnId) {
        net.resume_reading(conn);
    }

    // The default `on_read_closed` is right here: it sends what is queued and then closes.

    fn on_close(&mut self, _: &mut Net, conn: ConnId, reason: CloseReason, dropped_bytes: u64) {
        log::debug!("{conn}: {reason}, {dropped_bytes} bytes not sent");
    }
}

fn main() -> io::Result<()> {
    env_logger::init();
    let address = env::args_os().nth(1).unwrap_or_else(|| "127.0.0.1:9000".into());
    let mut event_loop = Loop::new(Config::default())?;
    let listener = event_loop.net().listen(&*address.to_string_lossy())?;
    let bound = event_loop.net().listener_addr(listener).ok_or(io::ErrorKind::AddrNotAvailable)?;
    println!("listening on {bound}");
    event_loop.run(&mut Echo)
}
