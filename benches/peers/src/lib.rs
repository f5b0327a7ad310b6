//! What the programs have in common: how a server says that it is ready.

use std::net::SocketAddr;

/// The first line that a server prints, up to its address.
pub const READY: &str = "listening on ";
/// What servers read at a time, as hotloop does.
pub const RECV_BYTES: usize = 64 << 10;

/// What the load's sockets send by (tcp(7)), whatever the system's default is. The servers' have
/// that default, which is printed beside what is measured.
pub const CONGESTION_CONTROL: &str = "cubic";

/// Returns the address to listen on: the first argument, by default any free port.
pub fn listen_addr() -> SocketAddr {
    let text = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".into());
    text.parse().expect("an address and a port")
}

/// Says that a server listens.
pub fn say_ready(addr: SocketAddr) {
    println!("{READY}{addr}");
}
