//! How long a process was on a processor, and how long it waited for one.

use std::fs;
use std::io;
use std::time::Duration;

#[derive(Clone, Copy)]
pub(crate) struct Usage {
    pub(crate) on_cpu: Duration,
    /// Runnable, and something else ran: such a measurement is disturbed.
    pub(crate) waited: Duration,
}

impl Usage {
    /// Reads the `schedstat` of every thread (the kernel's `sched-stats.rst`): nanoseconds, where
    /// `stat` of proc(5) has hundredths of a second.
    pub(crate) fn of(pid: u32) -> io::Result<Usage> {
        let mut usage = Usage { on_cpu: Duration::ZERO, waited: Duration::ZERO };
        for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
            let text = fs::read_to_string(thread?.path().join("schedstat"))?;
            let mut nanos = text.split_whitespace().map(str::parse);
            let mut next = || nanos.next().and_then(Result::ok).map(Duration::from_nanos);
            let (Some(on_cpu), Some(waited)) = (next(), next()) else {
                return Err(io::Error::other(format!("schedstat is {text:?}")));
            };
            usage.on_cpu += on_cpu;
            usage.waited += waited;
        }
        Ok(usage)
    }

    pub(crate) fn since(self, earlier: Usage) -> Usage {
        Usage { on_cpu: self.on_cpu - earlier.on_cpu, waited: self.waited - earlier.waited }
    }
}
