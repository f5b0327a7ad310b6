//! What the system says about this process: `proc(5)`.

use std::fs;
use std::io;

/// Resident memory, in KiB. The kernel counts it per core and sums it up now and then: some
/// hundred KiB may be missing.
pub(crate) fn resident_kib() -> io::Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.ok_or_else(|| io::Error::other("/proc/self/status has no VmRSS"))
}

/// Open descriptors.
pub(crate) fn descriptors() -> io::Result<usize> {
    // One of them is that of the listing.
    Ok(fs::read_dir("/proc/self/fd")?.count() - 1)
}

/// Seconds of processor time of all threads, in user and kernel mode.
pub(crate) fn processor_s() -> io::Result<f64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // The name of the program may hold anything, so the fields are counted from its end.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    // Always 100 a second where programs see them.
    Ok(ticks as f64 / 100.0)
}
