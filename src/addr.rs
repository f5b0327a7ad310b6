//! Addresses that need no look-up.

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};

use crate::options::invalid;

/// Anything that names a literal address and port: `"127.0.0.1:80"`, `"[::1]:80"`, a
/// [`SocketAddr`], a pair of address and port.
///
/// A host name is an error that says so: looking one up blocks (`getaddrinfo(3)`), and nothing
/// in the loop may block. Look it up on another thread and pass the result.
///
/// # Examples
///
/// ```
/// use hotloop::LiteralAddr;
///
/// assert_eq!("[::1]:80".literal_addr()?.port(), 80);
/// assert_eq!(([127, 0, 0, 1], 80).literal_addr()?, "127.0.0.1:80".literal_addr()?);
/// let error = "example.org:80".literal_addr().expect_err("that is a name");
/// assert!(error.to_string().contains("example.org:80"));
/// # Ok::<(), std::io::Error>(())
/// ```
pub trait LiteralAddr {
    /// Returns the address.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidInput`], with the text that was given in the message.
    fn literal_addr(&self) -> io::Result<SocketAddr>;
}

impl LiteralAddr for str {
    fn literal_addr(&self) -> io::Result<SocketAddr> {
        self.parse().map_err(|_| invalid(&explain(self)))
    }
}

impl LiteralAddr for String {
    fn literal_addr(&self) -> io::Result<SocketAddr> {
        self.as_str().literal_addr()
    }
}

impl<T: LiteralAddr + ?Sized> LiteralAddr for &T {
    fn literal_addr(&self) -> io::Result<SocketAddr> {
        (**self).literal_addr()
    }
}

macro_rules! always_literal {
    ($($from:ty),*) => {$(
        impl LiteralAddr for $from {
            fn literal_addr(&self) -> io::Result<SocketAddr> {
                Ok((*self).into())
            }
        }
    )*};
}

always_literal!(SocketAddr, SocketAddrV4, SocketAddrV6);

impl<A: Into<IpAddr> + Copy> LiteralAddr for (A, u16) {
    fn literal_addr(&self) -> io::Result<SocketAddr> {
        Ok(SocketAddr::new(self.0.into(), self.1))
    }
}

/// Says what is wrong with a text that is no address.
fn explain(text: &str) -> String {
    let Some((host, port)) = text.rsplit_once(':') else {
        return format!("{text:?} is not an address: the port is missing");
    };
    let unbracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    if port.parse::<u16>().is_err() {
        format!("{text:?} is not an address: the port is not a number up to 65535")
    } else if unbracketed.is_none() && host.contains(':') {
        format!("{text:?} is not an address: write IPv6 as [address]:port")
    } else if is_host_name(host) {
        format!("{text:?} is a host name; hotloop takes literal addresses: a look-up blocks")
    } else {
        format!("{text:?} is not an address")
    }
}

fn is_host_name(host: &str) -> bool {
    let allowed = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_');
    host.chars().all(allowed) && host.chars().any(char::is_alphabetic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literal_addresses_of_both_families_are_taken() {
        for text in ["127.0.0.1:80", "[::1]:80", "0.0.0.0:0", "[fe80::1%3]:9"] {
            assert_eq!(text.literal_addr().expect(text).to_string(), text);
        }
        let pair = (std::net::Ipv4Addr::LOCALHOST, 80);
        assert_eq!(pair.literal_addr().expect("pair").to_string(), "127.0.0.1:80");
    }

    #[test]
    fn what_is_not_an_address_is_named_with_the_reason() {
        for (text, why) in [
            ("localhost:80", "host name"),
            ("example.com:80", "host name"),
            ("127.0.0.1", "port is missing"),
            ("127.0.0.1:http", "not a number"),
            ("127.0.0.1:70000", "not a number"),
            ("::1:80", "[address]:port"),
            ("300.1.1.1:80", "is not an address"),
            ("", "port is missing"),
            (":80", "is not an address"),
            ("[localhost]:80", "is not an address"),
            ("local host:80", "is not an address"),
        ] {
            let error = text.literal_addr().expect_err(text);
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            let message = error.to_string();
            assert!(message.contains(why) && message.contains(text), "{text}: {message}");
        }
    }
}
