//! Both addresses of a connection, in 16 bytes of its record.

use std::net::{SocketAddr, SocketAddrV4};

/// The peer's address, and the own one once it is known. Those of IPv4, which are most, lie in
/// the record; others are looked at seldom enough to be elsewhere.
#[derive(Debug)]
pub(crate) enum Addrs {
    V4 { peer: Compact, local: Option<Compact> },
    Other(Box<(SocketAddr, Option<SocketAddr>)>),
}

/// An address of IPv4 in network order, without the alignment of a number.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Compact {
    ip: [u8; 4],
    port: [u8; 2],
}

impl Addrs {
    pub(crate) fn new(peer: SocketAddr) -> Addrs {
        match peer {
            SocketAddr::V4(peer) => Addrs::V4 { peer: Compact::of(peer), local: None },
            SocketAddr::V6(_) => Addrs::Other(Box::new((peer, None))),
        }
    }

    pub(crate) fn peer(&self) -> SocketAddr {
        match self {
            Addrs::V4 { peer, .. } => peer.addr(),
            Addrs::Other(addrs) => addrs.0,
        }
    }

    pub(crate) fn local(&self) -> Option<SocketAddr> {
        match self {
            Addrs::V4 { local, .. } => local.map(Compact::addr),
            Addrs::Other(addrs) => addrs.1,
        }
    }

    pub(crate) fn set_local(&mut self, addr: SocketAddr) {
        match (self, addr) {
            (Addrs::V4 { local, .. }, SocketAddr::V4(addr)) => *local = Some(Compact::of(addr)),
            (Addrs::Other(addrs), addr) => addrs.1 = Some(addr),
            (both @ Addrs::V4 { .. }, addr) => {
                *both = Addrs::Other(Box::new((both.peer(), Some(addr))));
            }
        }
    }
}

impl Compact {
    fn of(addr: SocketAddrV4) -> Compact {
        Compact { ip: addr.ip().octets(), port: addr.port().to_be_bytes() }
    }

    fn addr(self) -> SocketAddr {
        SocketAddr::from((self.ip, u16::from_be_bytes(self.port)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_in_comes_out() {
        let texts =
            ["10.1.2.3:40000", "255.255.255.255:65535", "[::ffff:10.1.2.3]:80", "[fe80::1%3]:9"];
        for peer in texts {
            let peer: SocketAddr = peer.parse().expect("an address");
            let mut addrs = Addrs::new(peer);
            assert_eq!((addrs.peer(), addrs.local()), (peer, None));
            for local in texts {
                let local: SocketAddr = local.parse().expect("an address");
                addrs.set_local(local);
                assert_eq!((addrs.peer(), addrs.local()), (peer, Some(local)));
            }
        }
    }

    #[test]
    fn both_take_sixteen_bytes() {
        assert_eq!(size_of::<Addrs>(), 16);
    }
}
