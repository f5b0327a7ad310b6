//! A key-value server that speaks RESP2: `redis-cli` and `redis-benchmark` use it unchanged.
//! Shows a protocol on top of `on_data`: the loop keeps what is incomplete, a pipeline is
//! answered with one write, and a client that does not read its replies is not read from either.
//! A command has at most 1 MiB, a word 512 KiB, a reply 1 MiB, the store 1 GiB.
//! Try it: `cargo run --release --example kv`, then `redis-cli -p 6390 set greeting hello`.

mod resp;

use std::{collections::HashMap, env, io};

use hotloop::{CloseReason, Config, ConnId, ConnMap, ConnOptions, Handler, Loop, Net, Sent};
use resp::{Stop, put, put_bulk};
use smallvec::SmallVec;

/// How many bytes of replies are written at once. It is the high-water mark, too: a connection
/// with more to answer is paused, and the rest of its commands waits for `on_writable`.
const BATCH_BYTES: usize = 64 << 10;
const REPLY_MAX_BYTES: usize = 1 << 20;
const STORE_MAX_BYTES: usize = 1 << 30;
/// What an entry costs beside its own bytes.
const ENTRY_BYTES: usize = 64;

#[derive(Default)]
pub(crate) struct Kv {
    store: Store,
    replies: Vec<u8>,
    /// How many bytes a connection's incomplete command needs before it is worth another look.
    awaited: ConnMap<usize>,
}

impl Handler for Kv {
    fn on_data(&mut self, net: &mut Net, conn: ConnId, data: &[u8]) -> usize {
        let mut awaited = self.awaited.get(conn).copied().unwrap_or(1);
        let (mut used, mut ends) = (0, false);
        while !ends && data.len() - used >= awaited && self.replies.len() <= BATCH_BYTES {
            match resp::parse(&data[used..]) {
                Ok((words, bytes)) => {
                    used += bytes;
                    awaited = 1;
                    ends = self.store.run(&words, &mut self.replies);
                }
                Err(Stop::Incomplete(bytes)) => awaited = bytes,
                Err(Stop::Malformed(what)) => {
                    put(&mut self.replies, '-', format_args!("ERR Protocol error: {what}"));
                    ends = true;
                }
            }
        }
        self.awaited.insert(conn, awaited);
        let sent = net.write(conn, &self.replies);
        self.replies.clear();
        if sent == Sent::Pressured {
            net.pause_reading(conn);
        }
        // Refused: the commands have run, and without their replies the client would misread.
        if ends || sent == Sent::Refused {
            net.close(conn);
        }
        used
    }

    fn on_writable(&mut self, net: &mut Net, conn: ConnId) {
        net.resume_reading(conn);
    }

    fn on_close(&mut self, _: &mut Net, conn: ConnId, reason: CloseReason, _: u64) {
        self.awaited.remove(conn);
        log::debug!("{conn}: {reason}");
    }
}

#[derive(Default)]
struct Store {
    values: HashMap<Box<[u8]>, Box<[u8]>>,
    bytes: usize,
}

impl Store {
    /// Runs a command and writes its reply. Returns whether it was the client's last.
    fn run(&mut self, words: &[&[u8]], out: &mut Vec<u8>) -> bool {
        let Some((name, args)) = words.split_first() else { return false };
        let name: SmallVec<[u8; 16]> = name.iter().take(64).map(u8::to_ascii_lowercase).collect();
        match (name.as_slice(), args) {
            (b"get", [key]) => self.get(key, out),
            (b"set", [_, _]) => self.set(args, out, '+', "OK"),
            (b"set", [_, _, _, ..]) => put(out, '-', "ERR syntax error"),
            (b"incr", [key]) => self.incr(key, out),
            (b"mget", [_, ..]) => self.mget(args, out),
            (b"mset", [_, ..]) if args.len() % 2 == 0 => self.set(args, out, '+', "OK"),
            (b"del", [_, ..]) => put(out, ':', args.iter().filter(|k| self.remove(k)).count()),
            (b"exists", [_, ..]) => {
                put(out, ':', args.iter().filter(|k| self.values.contains_key(**k)).count());
            }
            (b"ping", []) => put(out, '+', "PONG"),
            (b"ping" | b"echo", [message]) => put_bulk(out, message),
            (b"config", [_, b"save"]) => put(out, '*', "2\r\n$4\r\nsave\r\n$0\r\n"),
            (b"config", [_, b"appendonly"]) => put(out, '*', "2\r\n$10\r\nappendonly\r\n$2\r\nno"),
            (b"config", [_, _]) | (b"command", _) => put(out, '*', 0),
            (b"quit", _) => put(out, '+', "OK"),
            (name, _) => refuse(&name.escape_ascii().to_string(), out),
        }
        name.as_slice() == b"quit"
    }

    fn get(&self, key: &[u8], out: &mut Vec<u8>) {
        match self.values.get(key) {
            Some(value) => put_bulk(out, value),
            None => put(out, '$', -1),
        }
    }

    fn mget(&self, keys: &[&[u8]], out: &mut Vec<u8>) {
        let values = keys.iter().filter_map(|key| self.values.get(*key));
        if values.map(|value| value.len() + 16).sum::<usize>() > REPLY_MAX_BYTES {
            return put(out, '-', "ERR reply is too big");
        }
        put(out, '*', keys.len());
        keys.iter().for_each(|key| self.get(key, out));
    }

    fn incr(&mut self, key: &[u8], out: &mut Vec<u8>) {
        let old = self.values.get(key).map_or(Some(0), |value| resp::integer(value));
        let new = match old.map(|number| number.checked_add(1)) {
            None => return put(out, '-', "ERR value is not an integer or out of range"),
            Some(None) => return put(out, '-', "ERR increment or decrement would overflow"),
            Some(Some(number)) => number.to_string(),
        };
        self.set(&[key, new.as_bytes()], out, ':', &new);
    }

    /// Stores pairs of key and value and answers, or stores nothing if there is no room.
    fn set(&mut self, pairs: &[&[u8]], out: &mut Vec<u8>, kind: char, answer: &str) {
        let bytes: usize = pairs.iter().map(|word| word.len() + ENTRY_BYTES / 2).sum();
        if self.bytes + bytes > STORE_MAX_BYTES {
            return put(out, '-', "OOM command not allowed when used memory > 'maxmemory'.");
        }
        self.bytes += bytes;
        for pair in pairs.chunks_exact(2) {
            self.remove(pair[0]);
            self.values.insert(pair[0].into(), pair[1].into());
        }
        put(out, kind, answer);
    }

    fn remove(&mut self, key: &[u8]) -> bool {
        let old = self.values.remove(key);
        self.bytes -= old.as_ref().map_or(0, |value| key.len() + value.len() + ENTRY_BYTES);
        old.is_some()
    }
}

fn refuse(name: &str, out: &mut Vec<u8>) {
    let known = "get set incr mget mset del exists ping echo config".split(' ').any(|n| n == name);
    let text = if known { "wrong number of arguments for" } else { "unknown command" };
    put(out, '-', format_args!("ERR {text} '{name}'{}", if known { " command" } else { "" }));
}

fn main() -> io::Result<()> {
    env_logger::init();
    let address = env::args_os().nth(1).unwrap_or_else(|| "127.0.0.1:6390".into());
    let options = ConnOptions::default()
        .inbound_max_bytes(resp::COMMAND_MAX_BYTES)
        .high_water_bytes(BATCH_BYTES)
        .hard_limit_bytes(2 * (BATCH_BYTES + REPLY_MAX_BYTES));
    let mut event_loop = Loop::new(Config::default().conn(options))?;
    let listener = event_loop.net().listen(&*address.to_string_lossy())?;
    let bound = event_loop.net().listener_addr(listener).ok_or(io::ErrorKind::AddrNotAvailable)?;
    println!("listening on {bound}\ntry: redis-cli -p {} ping", bound.port());
    event_loop.run(&mut Kv::default())
}
