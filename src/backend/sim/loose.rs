//! Simulated sockets that belong to no loop.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::backend::{Loose, Sock, Taken, foreign};
use crate::error::Errno;
use crate::id::Key;
use crate::socket_option::SocketOption;
use crate::sys::errno::{EBADF, ENOTCONN};

use super::end::{Owner, Stage};
use super::machine::Socket;
use super::network::Network;
use super::trace::HostIndex;
use super::{Shared, Sim, of_result};

/// A descriptor of a simulated machine. Dropping it closes it.
pub(crate) struct LooseSocket {
    shared: Shared,
    host: HostIndex,
    /// Which life of the machine it belongs to: a restart closes it.
    life: u32,
    handle: i32,
    reset: bool,
    /// A loop has it.
    is_taken: bool,
}

impl LooseSocket {
    pub(super) fn new(shared: Shared, host: HostIndex, life: u32, handle: i32) -> LooseSocket {
        LooseSocket { shared, host, life, handle, reset: false, is_taken: false }
    }

    /// Has the close that follows reset the connection.
    pub(crate) fn reset_on_close(&mut self) {
        self.reset = true;
    }
}

impl fmt::Debug for LooseSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LooseSocket")
            .field("host", &self.host)
            .field("handle", &self.handle)
            .finish_non_exhaustive()
    }
}

impl Drop for LooseSocket {
    fn drop(&mut self) {
        if !self.is_taken {
            let mut network = self.shared.lock();
            if network.is_loose(self.host, self.life, self.handle) {
                network.close_now(self.host, self.handle, self.reset);
            }
        }
    }
}

impl Sim {
    /// Takes a socket into this kernel's loop: a connection or a listener, as `find` says.
    pub(super) fn take(
        &self,
        name: &'static str,
        key: Key,
        socket: Loose,
        options: &[SocketOption],
    ) -> Taken {
        let mut loose = match socket {
            Loose::Simulated(loose) => loose,
            other => return Err((foreign(), other)),
        };
        let is_here = Arc::ptr_eq(&loose.shared.0, &self.shared.0) && loose.host == self.host;
        if !is_here {
            return Err((foreign(), Loose::Simulated(loose)));
        }
        let take = |net: &mut Network, host| net.take_loose(host, &loose, key, options);
        match self.call(name, key, take, of_result) {
            Ok(addr) => {
                loose.is_taken = true;
                Ok((loose.handle, addr))
            }
            Err(error) => Err((error, Loose::Simulated(loose))),
        }
    }
}

impl Network {
    fn is_loose(&self, host: HostIndex, life: u32, handle: i32) -> bool {
        let machine = &self.machines[host];
        machine.life == life && machine.view(handle).is_some_and(|found| found.is_loose)
    }

    /// Ends what ties a socket to its loop; returns the machine's life. What the backend itself
    /// holds of the input is appended to `unread`.
    pub(super) fn detach(&mut self, host: HostIndex, sock: &Sock, unread: &mut Vec<u8>) -> u32 {
        if let Socket::Conn(index) = self.socket(host, sock) {
            let end = self.end_mut(index);
            assert!(end.flight.is_none(), "a connection is detached with a send in flight");
            unread.extend(end.arrived.drain(..));
            end.error = end.recv_error.take().or(end.error);
            end.end_shown = false;
        }
        let machine = &mut self.machines[host];
        if let Some(found) = machine.descriptor(sock.handle) {
            (found.is_loose, found.is_queued) = (true, false);
        }
        machine.life
    }

    /// Gives a loose socket to the loop of its machine under a key, with options. Returns a
    /// connection's peer, or a listener's own address.
    fn take_loose(
        &mut self,
        host: HostIndex,
        loose: &LooseSocket,
        key: Key,
        options: &[SocketOption],
    ) -> io::Result<SocketAddr> {
        self.count_call();
        let handle = loose.handle;
        if !self.is_loose(host, loose.life, handle) {
            return Err(Errno(EBADF).into());
        }
        let found = self.machines[host].descriptor(handle).expect("it was just found");
        let addr = match found.socket {
            Socket::Conn(index) => {
                let end = self.end_mut(index);
                if end.stage != Stage::Open || end.is_over() {
                    return Err(Errno(ENOTCONN).into());
                }
                end.owner = Owner::Socket { key, handle };
                (end.watch_read, end.watch_write) = (true, false);
                let remote = end.remote;
                self.set_all(index, options);
                remote
            }
            Socket::Listener(index) => self.listener(host, index).addr,
            Socket::Nothing => return Err(Errno(EBADF).into()),
        };
        let found = self.machines[host].descriptor(handle).expect("it was just found");
        (found.key, found.is_loose) = (key, false);
        self.wake(host, handle);
        Ok(addr)
    }
}
