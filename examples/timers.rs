//! An alarm clock for many: timers that fire once or repeat, what becomes of repeats that were
//! missed, cancelling, timers that end with their connection, and the idle timeout.
//!
//! Try it: `cargo run --release --example timers`, then `nc 127.0.0.1 9004` and type `in 1500 tea`,
//! `every 500 tick` (`Missed::Skip`), `count 500 step` (`Missed::Burst`), then `stall 2000`, which
//! keeps the whole loop busy: late ticks are left out, late steps made up for. `cancel` cancels
//! them; `idle 3000` closes the connection after 3 s without a byte in either direction.

use std::time::Duration;
use std::{env, io, str, thread};

use hotloop::{CloseReason, Config, ConnId, ConnMap, ConnOptions, Handler, ListenerId, Loop};
use hotloop::{Missed, Net, TimerId};

const LINE_MAX_BYTES: usize = 256;
const ALARMS_MAX: usize = 16;
const IDLE_MAX: Duration = Duration::from_secs(3600);
const STALL_MAX: Duration = Duration::from_secs(5);

struct Alarm {
    timer: TimerId,
    text: String,
    fired: u64,
}

#[derive(Default)]
pub(crate) struct Clock {
    alarms: ConnMap<Vec<Alarm>>,
}

impl Handler for Clock {
    fn on_accept(&mut self, _: &mut Net, conn: ConnId, _: ListenerId) {
        self.alarms.insert(conn, Vec::new());
    }

    fn on_data(&mut self, net: &mut Net, conn: ConnId, data: &[u8]) -> usize {
        let lines = data.split_inclusive(|byte| *byte == b'\n');
        let is_line = |line: &&[u8]| line.ends_with(b"\n") && line.len() <= LINE_MAX_BYTES;
        let obey = |line| {
            if self.obey(net, conn, str::from_utf8(line).unwrap_or("").trim()).is_none() {
                net.write(conn, b"in, every, count MS TEXT; cancel; idle, stall MS\n");
            }
            line.len()
        };
        lines.take_while(is_line).map(obey).sum()
    }

    fn on_timer(&mut self, net: &mut Net, timer: TimerId, token: u64) {
        let Some(conn) = ConnId::from_bits(token) else { return };
        let alarms = self.alarms.get_mut(conn).into_iter().flatten();
        for alarm in alarms.filter(|alarm| alarm.timer == timer) {
            alarm.fired += 1;
            net.write(conn, format!("{} {}\n", alarm.text, alarm.fired).as_bytes());
        }
    }

    fn on_close(&mut self, net: &mut Net, conn: ConnId, reason: CloseReason, _: u64) {
        log::debug!("{conn}: {reason}");
        // Those of `in` belong to the connection and are gone; a repeating one belongs to nobody.
        for alarm in self.alarms.remove(conn).unwrap_or_default() {
            net.cancel_timer(alarm.timer);
        }
    }
}

impl Clock {
    /// Does what a line says; `None` if that is unknown or too much.
    fn obey(&mut self, net: &mut Net, conn: ConnId, line: &str) -> Option<()> {
        let alarms = self.alarms.get_mut(conn)?;
        // The id of one that has fired for good is stale.
        alarms.retain(|alarm| net.timer_deadline(alarm.timer).is_some());
        let mut words = line.splitn(3, ' ');
        let (verb, number, text) = (words.next()?, words.next(), words.next().unwrap_or("alarm"));
        let (ms, token) = (number.unwrap_or("0").parse().ok()?, conn.to_bits());
        let (delay, period) = (Duration::from_millis(ms), Duration::from_millis(ms.max(10)));
        let alarm = |timer| Alarm { timer, text: text.to_owned(), fired: 0 };
        match verb {
            "cancel" => alarms.drain(..).for_each(|alarm| _ = net.cancel_timer(alarm.timer)),
            "idle" => _ = net.set_idle_timeout(conn, delay),
            "stall" => thread::sleep(delay.min(STALL_MAX)),
            _ if alarms.len() == ALARMS_MAX => return None,
            "in" => alarms.push(alarm(net.start_conn_timer(conn, delay, token)?)),
            "every" => alarms.push(alarm(net.start_repeating(period, Missed::Skip, token))),
            "count" => alarms.push(alarm(net.start_repeating(period, Missed::Burst, token))),
            _ => return None,
        }
        Some(())
    }
}

fn main() -> io::Result<()> {
    env_logger::init();
    let address = env::args_os().nth(1).unwrap_or_else(|| "127.0.0.1:9004".into());
    let conn = ConnOptions::default().inbound_max_bytes(LINE_MAX_BYTES).idle_timeout(IDLE_MAX);
    let mut event_loop = Loop::new(Config::default().conn(conn))?;
    let listener = event_loop.net().listen(&*address.to_string_lossy())?;
    let bound = event_loop.net().listener_addr(listener).ok_or(io::ErrorKind::AddrNotAvailable)?;
    println!("listening on {bound}");
    event_loop.run(&mut Clock::default())
}
