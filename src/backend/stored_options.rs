//! Options of sockets that are not real: stored, and read back by Linux's rules.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use crate::error::Errno;
use crate::socket_option::{OptionName, SocketOption};
use crate::sys::errno::EINVAL;

/// The smallest send and receive buffers (`socket(7)`).
const SEND_MIN_BYTES: usize = 4608;
const RECV_MIN_BYTES: usize = 2304;

/// What was set on one socket.
#[derive(Debug, Clone, Default)]
pub(crate) struct StoredOptions(BTreeMap<OptionName, SocketOption>);

impl StoredOptions {
    /// Sets an option. A buffer is doubled, and not smaller than the smallest; a bound socket does
    /// not change its family.
    pub(crate) fn set(&mut self, option: &SocketOption) -> io::Result<()> {
        let stored = match option {
            SocketOption::SendBufferBytes(bytes) => {
                SocketOption::SendBufferBytes((bytes * 2).max(SEND_MIN_BYTES))
            }
            SocketOption::RecvBufferBytes(bytes) => {
                SocketOption::RecvBufferBytes((bytes * 2).max(RECV_MIN_BYTES))
            }
            SocketOption::V6Only(_) => return Err(Errno(EINVAL).into()),
            other => other.clone(),
        };
        self.0.insert(stored.name(), stored);
        Ok(())
    }

    /// Reads an option: what was set, or what a fresh socket has.
    pub(crate) fn get(&self, name: OptionName) -> SocketOption {
        self.0.get(&name).cloned().unwrap_or_else(|| fresh(name))
    }

    /// What a connection has of its listener's (`tcp(7)`).
    pub(crate) fn inherited(&self) -> StoredOptions {
        let own = [OptionName::DeferAccept, OptionName::FastOpen, OptionName::Quickack];
        let inherited = self.0.iter().filter(|(name, _)| !own.contains(name));
        StoredOptions(inherited.map(|(name, option)| (*name, option.clone())).collect())
    }

    /// The size of the send buffer, if it was set.
    pub(crate) fn send_buffer_bytes(&self) -> Option<usize> {
        match self.0.get(&OptionName::SendBufferBytes) {
            Some(SocketOption::SendBufferBytes(bytes)) => Some(*bytes),
            _ => None,
        }
    }
}

fn fresh(name: OptionName) -> SocketOption {
    match name {
        OptionName::Nodelay => SocketOption::Nodelay(true),
        OptionName::Keepalive => SocketOption::Keepalive(None),
        OptionName::SendBufferBytes => SocketOption::SendBufferBytes(16 << 10),
        OptionName::RecvBufferBytes => SocketOption::RecvBufferBytes(128 << 10),
        OptionName::Linger => SocketOption::Linger(None),
        OptionName::UserTimeout => SocketOption::UserTimeout(Duration::ZERO),
        OptionName::NotsentLowatBytes => SocketOption::NotsentLowatBytes(u32::MAX),
        OptionName::Quickack => SocketOption::Quickack(true),
        OptionName::DeferAccept => SocketOption::DeferAccept(Duration::ZERO),
        OptionName::FastOpen => SocketOption::FastOpen(0),
        OptionName::ReuseAddress => SocketOption::ReuseAddress(true),
        OptionName::ReusePort => SocketOption::ReusePort(false),
        OptionName::V6Only => SocketOption::V6Only(false),
        OptionName::TypeOfService => SocketOption::TypeOfService(0),
        OptionName::Congestion => SocketOption::Congestion("reno".to_owned()),
        OptionName::BusyPoll => SocketOption::BusyPoll(Duration::ZERO),
        OptionName::Mark => SocketOption::Mark(0),
        OptionName::Device => SocketOption::Device(None),
    }
}
