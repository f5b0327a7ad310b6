//! Where the server listens, and what it allows there.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use hotloop::{ConnOptions, ListenOptions, ListenerId, Net, SlowConsumer, SocketOption};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Door {
    /// Slow consumers are closed.
    Main,
    /// Slow consumers are waited for.
    Patient,
    /// For those who misbehave: short deadlines, tight limits.
    Strict,
    /// The server behind the server.
    Back,
}

/// Where they are, to be dialled.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Addrs {
    pub(crate) main: SocketAddr,
    pub(crate) patient: SocketAddr,
    pub(crate) strict: SocketAddr,
}

/// All listeners.
pub(super) struct Doors {
    listeners: [(ListenerId, Door); 4],
    pub(super) addrs: Addrs,
    pub(super) back: SocketAddr,
}

impl Doors {
    pub(super) fn open(net: &mut Net) -> io::Result<Doors> {
        let mut open = |door: Door| -> io::Result<(ListenerId, SocketAddr)> {
            let mut options = ListenOptions::default().conn(door.options());
            if door == Door::Strict {
                options = options.socket(SocketOption::SendBufferBytes(8 << 10));
            }
            let listener = net.listen_with("127.0.0.1:0", options)?;
            let addr = net.listener_addr(listener).expect("it listens");
            Ok((listener, addr))
        };
        let (main, patient) = (open(Door::Main)?, open(Door::Patient)?);
        let (strict, back) = (open(Door::Strict)?, open(Door::Back)?);
        Ok(Doors {
            listeners: [
                (main.0, Door::Main),
                (patient.0, Door::Patient),
                (strict.0, Door::Strict),
                (back.0, Door::Back),
            ],
            addrs: Addrs { main: main.1, patient: patient.1, strict: strict.1 },
            back: back.1,
        })
    }

    pub(super) fn of(&self, listener: ListenerId) -> Door {
        let found = self.listeners.iter().find(|(id, _)| *id == listener);
        found.expect("there are no other listeners").1
    }
}

impl Door {
    /// Returns what holds for connections that come through it. Deadlines that nobody is to miss
    /// leave time for a machine that has other things to do.
    pub(super) fn options(self) -> ConnOptions {
        let usual = ConnOptions::default()
            .write_stall_timeout(Duration::from_secs(30))
            .linger_timeout(Duration::from_secs(30));
        match self {
            Door::Main | Door::Back => usual,
            Door::Patient => usual.hard_limit_bytes(256 << 10).slow_consumer(SlowConsumer::Refuse),
            Door::Strict => usual
                .hard_limit_bytes(256 << 10)
                .inbound_max_bytes(8 << 10)
                .write_stall_timeout(Duration::from_secs(1))
                .idle_timeout(Duration::from_secs(2))
                .linger_bytes(16 << 10),
        }
    }
}
