//! A line chat: what one types, all others read.
//!
//! Shows a fan-out: the lines are stored once, and every queue holds a reference to them. Who
//! reads too slowly is closed by the limit of its queue, and who would miss a line because all
//! queues together hold too much is aborted: whoever is there has every line. Nobody waits for
//! anybody: the sender is never slowed down. A line of more than 4 KiB ends its sender.
//!
//! Try it: `cargo run --release --example hub`, then `nc 127.0.0.1 9003` in several terminals.
//! With `RUST_LOG=debug` it tells who comes and goes; the address is the first argument.

use std::{env, io};

use hotloop::{Bytes, CloseReason, Config, ConnId, ConnMap, ConnOptions, Handler};
use hotloop::{ListenerId, Loop, Net, Sent};

/// The longest line, its end included.
pub(crate) const LINE_MAX_BYTES: usize = 4096;

#[derive(Default)]
pub(crate) struct Hub {
    members: ConnMap<()>,
}

impl Hub {
    /// What its connections need. The limit of what is left unconsumed is that of a line, and
    /// [`SlowConsumer::Close`](hotloop::SlowConsumer::Close) is the default.
    pub(crate) fn options() -> ConnOptions {
        ConnOptions::default().inbound_max_bytes(LINE_MAX_BYTES)
    }

    /// Sends whole lines to everybody but who has said them: one of them is what it has typed.
    fn tell_others(&mut self, net: &mut Net, speaker: ConnId, lines: Bytes) {
        for (member, ()) in self.members.iter().filter(|(member, ())| *member != speaker) {
            // The loop ends who is over its own limit. Where the limit of all queues together
            // refuses, nobody else does it, and who misses a line must not read on.
            if net.write_shared(member, lines.clone()) == Sent::Refused {
                net.abort(member);
            }
        }
    }
}

impl Handler for Hub {
    fn on_accept(&mut self, net: &mut Net, conn: ConnId, _: ListenerId) {
        log::debug!("{conn}: {:?}, beside {} others", net.peer_addr(conn), self.members.len());
        self.members.insert(conn, ());
    }

    fn on_data(&mut self, net: &mut Net, conn: ConnId, data: &[u8]) -> usize {
        let lines = data.split_inclusive(|byte| *byte == b'\n');
        let is_line = |line: &&[u8]| line.ends_with(b"\n") && line.len() <= LINE_MAX_BYTES;
        let used = lines.take_while(is_line).map(<[u8]>::len).sum();
        if used > 0 {
            self.tell_others(net, conn, Bytes::copy_from_slice(&data[..used]));
        }
        // Left is the beginning of a line, or more than one may have, and then the loop closes.
        used
    }

    /// A last line without an end is a line: whatever follows it from others begins a new one.
    fn on_read_closed(&mut self, net: &mut Net, conn: ConnId, rest: &[u8]) {
        if !rest.is_empty() {
            self.tell_others(net, conn, [rest, b"\n"].concat().into());
        }
        net.close(conn);
    }

    fn on_close(&mut self, _: &mut Net, conn: ConnId, reason: CloseReason, dropped_bytes: u64) {
        log::debug!("{conn}: {reason}, {dropped_bytes} bytes not sent");
        self.members.remove(conn);
    }
}

fn main() -> io::Result<()> {
    env_logger::init();
    let address = env::args_os().nth(1).unwrap_or_else(|| "127.0.0.1:9003".into());
    let mut event_loop = Loop::new(Config::default().conn(Hub::options()))?;
    let listener = event_loop.net().listen(&*address.to_string_lossy())?;
    let bound = event_loop.net().listener_addr(listener).ok_or(io::ErrorKind::AddrNotAvailable)?;
    println!("listening on {bound}");
    event_loop.run(&mut Hub::default())
}
