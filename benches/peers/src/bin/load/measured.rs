//! Measuring a load while it goes on.

use std::io;
use std::mem;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::usage::Usage;

/// Before the measurement: caches, the congestion window, and the processor's clock.
const WARM_UP: Duration = Duration::from_millis(300);
/// Latencies are told apart from a nanosecond to a minute, to three digits.
const LATENCY_MAX_NANOS: u64 = 60_000_000_000;

/// What has come back.
pub(crate) struct Tally {
    messages: u64,
    latency: Histogram<u64>,
    /// Of the connection that floods, if one does.
    flood_bytes: Option<usize>,
}

impl Tally {
    pub(crate) fn new() -> io::Result<Tally> {
        let latency = Histogram::new_with_max(LATENCY_MAX_NANOS, 3).map_err(io::Error::other)?;
        Ok(Tally { messages: 0, latency, flood_bytes: None })
    }

    /// Counts a message that was due at that time, and has come back.
    pub(crate) fn add(&mut self, due: Instant) {
        self.messages += 1;
        let nanos = u64::try_from(due.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.latency.saturating_record(nanos);
    }

    /// Counts what has come back to a connection that floods.
    pub(crate) fn add_flood(&mut self, bytes: usize) {
        *self.flood_bytes.get_or_insert(0) += bytes;
    }
}

pub(crate) trait Load {
    /// Goes on until it is time.
    fn play(&mut self, until: Instant) -> io::Result<()>;

    fn tally(&mut self) -> &mut Tally;
}

pub(crate) struct Measured {
    tally: Tally,
    /// Messages, those of the warm-up included.
    total: u64,
    seconds: f64,
    server: Usage,
    own: Usage,
}

/// Plays a load, and reads what the server spends on it once it is warm.
pub(crate) fn measure(
    load: &mut impl Load,
    server: u32,
    duration: Duration,
) -> io::Result<Measured> {
    load.play(Instant::now() + WARM_UP)?;
    let warmed_up = mem::replace(load.tally(), Tally::new()?).messages;
    let before = (Usage::of(server)?, Usage::of(std::process::id())?);
    let began = Instant::now();
    load.play(began + duration)?;
    let seconds = began.elapsed().as_secs_f64();
    let server = Usage::of(server)?.since(before.0);
    let own = Usage::of(std::process::id())?.since(before.1);
    let tally = mem::replace(load.tally(), Tally::new()?);
    Ok(Measured { total: warmed_up + tally.messages, tally, seconds, server, own })
}

impl Measured {
    pub(crate) fn print(&self) {
        let Tally { messages, latency, flood_bytes } = &self.tally;
        let micros = |quantile| latency.value_at_quantile(quantile) as f64 / 1e3;
        let per_message = self.server.on_cpu.as_nanos() as f64 / *messages as f64;
        if let Some(bytes) = flood_bytes {
            print!("flood_gb={:.3} ", *bytes as f64 / self.seconds / 1e9);
        }
        println!(
            "total={} per_second={:.0} server_ns={per_message:.1} p50_us={:.2} p99_us={:.2} \
             p999_us={:.2} server_waited={:.5} load_waited={:.5}",
            self.total,
            *messages as f64 / self.seconds,
            micros(0.5),
            micros(0.99),
            micros(0.999),
            self.server.waited.as_secs_f64() / self.seconds,
            self.own.waited.as_secs_f64() / self.seconds,
        );
    }
}
