//! Connections that do nothing: what memory they cost.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use crate::conn::set_options;
use crate::settings::Settings;

/// Of the server's start, and of its first connections, whatever it needs once.
const FIRST: usize = 200;

/// Prints how many bytes of memory the server has more for each connection. Each has had a message
/// and an answer before it is idle.
pub(crate) fn run(settings: &Settings) -> io::Result<()> {
    let mut conns: Vec<TcpStream> = Vec::with_capacity(FIRST + settings.conns);
    add(&mut conns, settings, FIRST)?;
    let before = resident_bytes(settings.pid)?;
    add(&mut conns, settings, settings.conns)?;
    let after = resident_bytes(settings.pid)?;
    let each = (after as f64 - before as f64) / settings.conns as f64;
    println!("bytes_per_conn={each:.1}");
    Ok(())
}

fn add(conns: &mut Vec<TcpStream>, settings: &Settings, count: usize) -> io::Result<()> {
    let sent = vec![b'm'; settings.bytes];
    let mut answer = vec![0; settings.bytes];
    for _ in 0..count {
        let mut conn = TcpStream::connect(settings.addr)?;
        set_options(&conn)?;
        conn.write_all(&sent)?;
        conn.read_exact(&mut answer)?;
        if answer != sent {
            return Err(io::Error::other("other bytes came back than were sent"));
        }
        conns.push(conn);
    }
    Ok(())
}

/// Reads the anonymous part of what is resident (`proc_pid_status(5)`): what a server has
/// allocated, without the files that it has touched.
fn resident_bytes(pid: u32) -> io::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let row = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = row.and_then(|row| row.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.map(|kib| kib << 10).ok_or_else(|| io::Error::other("no RssAnon in its status"))
}
