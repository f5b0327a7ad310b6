//! Forwards TCP connections: `proxy LISTEN TARGET`.
//!
//! Shows two connections as one. Back-pressure goes through in both directions: who does not read
//! is, in the end, not written to by the far side, and costs a bounded queue. An end of stream
//! goes through behind the last byte, and the other direction goes on; a reset resets.
//!
//! Try it: `cargo run --release --example proxy 127.0.0.1:9002 127.0.0.1:9000` in front of
//! `echo`, then `nc 127.0.0.1 9002` and type. With `RUST_LOG=debug` it tells who comes and goes.

use std::net::SocketAddr;
use std::{env, io, time::Duration};

use hotloop::{CloseReason, Config, ConnId, ConnMap, ConnOptions, Handler, Keepalive, Limit};
use hotloop::{ListenerId, LiteralAddr, Loop, Net, Sent, SlowConsumer, SocketOption};

pub(crate) struct Proxy {
    target: SocketAddr,
    /// The other end of each connection.
    others: ConnMap<ConnId>,
}

impl Proxy {
    pub(crate) fn new(target: SocketAddr) -> Proxy {
        Proxy { target, others: ConnMap::new() }
    }

    /// What its connections need. A write that is refused is tried again, so that nothing is
    /// lost; and a peer may pause for as long as it likes, since the queue it leaves is bounded.
    /// One that vanishes is found in 2 min, or by the kernel's retransmissions in some 15 min, if
    /// there are any: `UserTimeout`, which shortens them, would end who pauses.
    pub(crate) fn options() -> ConnOptions {
        let [idle, interval] = [60, 15].map(Duration::from_secs);
        ConnOptions::default()
            .slow_consumer(SlowConsumer::Refuse)
            .write_stall_timeout(Limit::Unlimited)
            .socket(SocketOption::Keepalive(Some(Keepalive { idle, interval, probes: 4 })))
    }
}

impl Handler for Proxy {
    fn on_accept(&mut self, net: &mut Net, client: ConnId, _: ListenerId) {
        match net.connect(self.target) {
            // What the client sends until the connect is done is queued, its FIN too.
            Ok(server) => {
                log::debug!("{client} {:?}: to {server}", net.peer_addr(client));
                self.others.insert(client, server);
                self.others.insert(server, client);
            }
            Err(error) => {
                log::warn!("{client}: {error}");
                net.abort(client);
            }
        }
    }

    fn on_data(&mut self, net: &mut Net, conn: ConnId, data: &[u8]) -> usize {
        let sent = self.others.get(conn).map_or(Sent::Closed, |other| net.write(*other, data));
        if sent != Sent::Queued {
            net.pause_reading(conn);
        }
        // Refused: the same bytes come again. Closed: the other end's `on_close` is on its way.
        if sent.is_taken() { data.len() } else { 0 }
    }

    fn on_writable(&mut self, net: &mut Net, conn: ConnId) {
        if let Some(other) = self.others.get(conn) {
            net.resume_reading(*other);
        }
    }

    /// Passes the FIN on. `rest` is empty: whoever left bytes unconsumed is paused.
    fn on_read_closed(&mut self, net: &mut Net, conn: ConnId, _rest: &[u8]) {
        if let Some(other) = self.others.get(conn) {
            net.shutdown(*other);
        }
    }

    fn on_close(&mut self, net: &mut Net, conn: ConnId, reason: CloseReason, dropped_bytes: u64) {
        log::debug!("{conn}: {reason}, {dropped_bytes} bytes not sent");
        let Some(other) = self.others.remove(conn) else { return };
        // Behind both FINs nothing is missing, and the other end finishes by itself. Any other
        // end is passed on as a reset, which drops what the kernel has not sent by then.
        if reason != CloseReason::PeerClosed {
            net.flush(other);
            net.abort(other);
        }
    }
}

fn main() -> io::Result<()> {
    env_logger::init();
    let mut args = env::args_os().skip(1).map(|text| text.to_string_lossy().into_owned());
    let address = args.next().unwrap_or_else(|| "127.0.0.1:9002".into());
    let target = args.next().unwrap_or_else(|| "127.0.0.1:9000".into()).literal_addr()?;
    let mut event_loop = Loop::new(Config::default().conn(Proxy::options()))?;
    let listener = event_loop.net().listen(address)?;
    let bound = event_loop.net().listener_addr(listener).ok_or(io::ErrorKind::AddrNotAvailable)?;
    println!("listening on {bound}");
    event_loop.run(&mut Proxy::new(target))
}
