//! Scripted sockets that belong to no loop.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::backend::{Loose, Taken, foreign};
use crate::error::Errno;
use crate::id::Key;
use crate::sys::errno::ENOTCONN;

use super::{Socket, World};

/// A socket of a scripted world. Dropping it closes it.
pub(crate) struct LooseSocket {
    world: World,
    /// There until a loop takes it.
    socket: Option<Box<Socket>>,
    reset: bool,
}

impl LooseSocket {
    pub(super) fn new(world: World, socket: Socket) -> LooseSocket {
        LooseSocket { world, socket: Some(Box::new(socket)), reset: false }
    }

    /// Has the close that follows reset the connection.
    pub(crate) fn reset_on_close(&mut self) {
        self.reset = true;
    }
}

impl fmt::Debug for LooseSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LooseSocket").field("socket", &self.socket).finish_non_exhaustive()
    }
}

impl Drop for LooseSocket {
    fn drop(&mut self) {
        if let Some(Socket::Conn(peer)) = self.socket.as_deref() {
            self.world.link(*peer, |link| link.close(self.reset));
        }
    }
}

impl World {
    /// Takes a socket of this world into its loop.
    pub(super) fn take(&self, new_key: Key, socket: Loose) -> Taken {
        let mut loose = match socket {
            Loose::Scripted(loose) if Arc::ptr_eq(&loose.world.0, &self.0) => loose,
            other => return Err((foreign(), other)),
        };
        let mut state = self.state();
        if let Some(Socket::Conn(peer)) = loose.socket.as_deref() {
            let link = &state.links[peer.0];
            if link.reset || (link.fin && link.finished) {
                drop(state);
                return Err((Errno(ENOTCONN).into(), Loose::Scripted(loose)));
            }
        }
        let mut socket = loose.socket.take().expect("only a loop takes it");
        let addr = match &mut *socket {
            Socket::Conn(peer) => {
                let link = &mut state.links[peer.0];
                link.register(new_key);
                SocketAddr::from(([10, 0, 0, 1], u16::try_from(peer.0).unwrap_or(u16::MAX)))
            }
            Socket::Listener { key, addr, edge, .. } => {
                (*key, *edge) = (new_key, true);
                *addr
            }
            other => panic!("{other:?} is never loose"),
        };
        Ok((state.open(*socket), addr))
    }
}
