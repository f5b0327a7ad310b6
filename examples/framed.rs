//! Sends back frames whose checksum is right. A frame is a length of four bytes, high one first,
//! and so much content: the payload and its CRC-32 (as zlib's), high byte first, at the end.
//! Shows framing without copies, back-pressure amid the frames of one delivery, and what becomes
//! of a peer that sends nonsense: it is told why in the log, and is gone.
//!
//! Try it: `RUST_LOG=info cargo run --release --example framed [ADDRESS]`, and elsewhere
//! `printf '\0\0\0\6hi\xd8\x93\x2a\xac' | nc -q1 127.0.0.1 9000 | xxd`.

use std::{env, io};

use hotloop::framing::LengthPrefix;
use hotloop::{CloseReason, Config, ConnId, ConnOptions, Handler, Loop, Net, Sent};

const RECV_BUFFER_BYTES: usize = 64 << 10;
const FRAMING: LengthPrefix = LengthPrefix::u32_be(64 << 10);
const CRC_TABLE: [u32; 256] = crc_table();

struct Framed;

impl Handler for Framed {
    fn on_data(&mut self, net: &mut Net, conn: ConnId, data: &[u8]) -> usize {
        let mut frames = FRAMING.frames(data);
        while let Some(frame) = frames.next() {
            match frame {
                Ok(frame) if is_sound(frame) => {
                    // As long as the one that came, so that it is not too long.
                    let Ok(sent) = FRAMING.write_frame(net, conn, frame) else { break };
                    if sent == Sent::Refused {
                        frames.put_back();
                    }
                    if sent != Sent::Queued {
                        net.pause_reading(conn);
                    }
                }
                Ok(frame) => reject(net, conn, &format!("{} bytes, bad checksum", frame.len())),
                Err(error) => reject(net, conn, &error.to_string()),
            }
            if !net.is_reading(conn) {
                break;
            }
        }
        frames.consumed()
    }

    fn on_writable(&mut self, net: &mut Net, conn: ConnId) {
        net.resume_reading(conn);
    }

    fn on_read_closed(&mut self, net: &mut Net, conn: ConnId, rest: &[u8]) {
        if !rest.is_empty() {
            log::info!("{conn}: ended within a frame, {} bytes of it are there", rest.len());
        }
        net.close(conn);
    }

    fn on_close(&mut self, _: &mut Net, conn: ConnId, reason: CloseReason, dropped_bytes: u64) {
        log::debug!("{conn}: {reason}, {dropped_bytes} bytes not sent");
    }
}

/// Ends a connection behind the answers that are on their way.
fn reject(net: &mut Net, conn: ConnId, why: &str) {
    log::info!("{conn}: {why}");
    net.close(conn);
}

/// Whether the last four bytes are the checksum of the others.
fn is_sound(frame: &[u8]) -> bool {
    let split = frame.split_last_chunk();
    split.is_some_and(|(payload, sum)| u32::from_be_bytes(*sum) == crc32(payload))
}

fn crc32(data: &[u8]) -> u32 {
    let index = |crc: u32, byte: u8| usize::from(crc.to_le_bytes()[0] ^ byte);
    !data.iter().fold(!0, |crc, byte| CRC_TABLE[index(crc, *byte)] ^ (crc >> 8))
}

/// What eight steps of the polynomial make of each byte.
const fn crc_table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut bit = 0;
    while bit < 256 * 8 {
        let crc = if bit % 8 == 0 { bit / 8 } else { table[bit as usize / 8] };
        table[bit as usize / 8] = (crc >> 1) ^ (0xedb8_8320 * (crc & 1));
        bit += 1;
    }
    table
}

fn main() -> io::Result<()> {
    env_logger::init();
    let address = env::args_os().nth(1).unwrap_or_else(|| "127.0.0.1:9000".into());
    let conn = ConnOptions::default().inbound_max_bytes(FRAMING.needs_bytes() + RECV_BUFFER_BYTES);
    let config = Config::default().recv_buffer_bytes(RECV_BUFFER_BYTES).conn(conn);
    let mut event_loop = Loop::new(config)?;
    let listener = event_loop.net().listen(&*address.to_string_lossy())?;
    let bound = event_loop.net().listener_addr(listener).ok_or(io::ErrorKind::AddrNotAvailable)?;
    println!("listening on {bound}");
    event_loop.run(&mut Framed)
}
