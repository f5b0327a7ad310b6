//! Options and counts of real sockets.

use std::io;

use socket2::{Socket, TcpKeepalive};

use crate::options::ConnOptions;
use crate::socket_option::{
    Keepalive, KernelCount, OptionName, SocketOption, TcpInfo, unsupported,
};

/// Sets what a connection is to have from the start.
pub(crate) fn prepare(socket: &Socket, options: &ConnOptions) -> io::Result<()> {
    if options.nodelay {
        socket.set_tcp_nodelay(true)?;
    }
    set_all(socket, &options.socket)
}

/// Sets what an adopted connection is to have: it may be anything but a new one.
pub(crate) fn prepare_adopted(socket: &Socket, options: &ConnOptions) -> io::Result<()> {
    socket.set_tcp_nodelay(options.nodelay)?;
    // `close(2)` would wait so long, and the loop with it.
    if socket.linger()?.is_some_and(|linger| !linger.is_zero()) {
        socket.set_linger(None)?;
    }
    set_all(socket, &options.socket)
}

/// Sets several options.
pub(crate) fn set_all(socket: &Socket, options: &[SocketOption]) -> io::Result<()> {
    options.iter().try_for_each(|option| {
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{option:?}: {error}"));
        set(socket, option).map_err(named)
    })
}

/// Sets an option, whose value was checked.
pub(crate) fn set(socket: &Socket, option: &SocketOption) -> io::Result<()> {
    match option {
        SocketOption::Nodelay(on) => socket.set_tcp_nodelay(*on),
        SocketOption::Keepalive(None) => socket.set_keepalive(false),
        SocketOption::Keepalive(Some(keepalive)) => set_keepalive(socket, keepalive),
        SocketOption::SendBufferBytes(bytes) => socket.set_send_buffer_size(*bytes),
        SocketOption::RecvBufferBytes(bytes) => socket.set_recv_buffer_size(*bytes),
        SocketOption::Linger(duration) => socket.set_linger(*duration),
        SocketOption::V6Only(on) => socket.set_only_v6(*on),
        other => system::set(socket, other),
    }
}

/// Reads an option.
pub(crate) fn get(socket: &Socket, name: OptionName) -> io::Result<SocketOption> {
    Ok(match name {
        OptionName::Nodelay => SocketOption::Nodelay(socket.tcp_nodelay()?),
        OptionName::Keepalive => SocketOption::Keepalive(keepalive(socket)?),
        OptionName::SendBufferBytes => SocketOption::SendBufferBytes(socket.send_buffer_size()?),
        OptionName::RecvBufferBytes => SocketOption::RecvBufferBytes(socket.recv_buffer_size()?),
        OptionName::Linger => SocketOption::Linger(socket.linger()?),
        OptionName::V6Only => SocketOption::V6Only(socket.only_v6()?),
        other => return system::get(socket, other),
    })
}

/// Returns what the kernel knows of a connection.
pub(crate) fn tcp_info(socket: &Socket) -> io::Result<TcpInfo> {
    system::tcp_info(socket)
}

/// Counts what the kernel holds.
pub(crate) fn count(socket: &Socket, what: KernelCount) -> io::Result<usize> {
    system::count(socket, what)
}

fn set_keepalive(socket: &Socket, keepalive: &Keepalive) -> io::Result<()> {
    socket.set_keepalive(true)?;
    let numbers = TcpKeepalive::new().with_time(keepalive.idle).with_interval(keepalive.interval);
    socket.set_tcp_keepalive(&numbers.with_retries(keepalive.probes))
}

fn keepalive(socket: &Socket) -> io::Result<Option<Keepalive>> {
    if !socket.keepalive()? {
        return Ok(None);
    }
    keepalive_numbers(socket).map(Some)
}

#[cfg(unix)]
fn keepalive_numbers(socket: &Socket) -> io::Result<Keepalive> {
    let (idle, interval) = (socket.tcp_keepalive_time()?, socket.tcp_keepalive_interval()?);
    Ok(Keepalive { idle, interval, probes: socket.tcp_keepalive_retries()? })
}

/// The numbers can be set and not be read.
#[cfg(not(unix))]
fn keepalive_numbers(_: &Socket) -> io::Result<Keepalive> {
    Err(unsupported("a way to read the numbers of a keepalive"))
}

#[cfg(target_os = "linux")]
mod system {
    use std::os::fd::{AsRawFd, RawFd};
    use std::time::Duration;

    use super::*;
    use crate::sys::errno;

    /// `SIOCOUTQ` and `SIOCOUTQNSD` (`tcp(7)`, `linux/sockios.h`).
    const SIOCOUTQ: libc::Ioctl = 0x5411;
    const SIOCOUTQNSD: libc::Ioctl = 0x894b;
    /// Larger than any kernel's `struct tcp_info`.
    const TCP_INFO_MAX: usize = 512;
    const INFO_LEN: libc::socklen_t = 512;
    const INT_LEN: libc::socklen_t = 4;

    pub(super) fn set(socket: &Socket, option: &SocketOption) -> io::Result<()> {
        match option {
            SocketOption::UserTimeout(timeout) => socket.set_tcp_user_timeout(Some(*timeout)),
            SocketOption::NotsentLowatBytes(bytes) => socket.set_tcp_notsent_lowat(*bytes),
            SocketOption::Quickack(on) => socket.set_tcp_quickack(*on),
            SocketOption::DeferAccept(timeout) => {
                set_int(socket, libc::TCP_DEFER_ACCEPT, timeout.as_secs())
            }
            SocketOption::FastOpen(conns) => set_int(socket, libc::TCP_FASTOPEN, *conns),
            SocketOption::ReuseAddress(on) => socket.set_reuse_address(*on),
            SocketOption::ReusePort(on) => socket.set_reuse_port(*on),
            SocketOption::TypeOfService(bits) => set_type_of_service(socket, (*bits).into()),
            SocketOption::Congestion(name) => socket.set_tcp_congestion(name.as_bytes()),
            SocketOption::BusyPoll(time) => {
                let micros = u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
                socket.set_busy_poll(micros)
            }
            SocketOption::Mark(mark) => socket.set_mark(*mark),
            SocketOption::Device(name) => socket.bind_device(name.as_ref().map(String::as_bytes)),
            other => Err(unsupported(&format!("{:?}", other.name()))),
        }
    }

    pub(super) fn get(socket: &Socket, name: OptionName) -> io::Result<SocketOption> {
        Ok(match name {
            OptionName::UserTimeout => {
                SocketOption::UserTimeout(socket.tcp_user_timeout()?.unwrap_or_default())
            }
            OptionName::NotsentLowatBytes => {
                SocketOption::NotsentLowatBytes(socket.tcp_notsent_lowat()?)
            }
            OptionName::Quickack => SocketOption::Quickack(socket.tcp_quickack()?),
            OptionName::DeferAccept => {
                let seconds = int(socket, libc::TCP_DEFER_ACCEPT)?;
                SocketOption::DeferAccept(Duration::from_secs(seconds.into()))
            }
            OptionName::FastOpen => SocketOption::FastOpen(int(socket, libc::TCP_FASTOPEN)?),
            OptionName::ReuseAddress => SocketOption::ReuseAddress(socket.reuse_address()?),
            OptionName::ReusePort => SocketOption::ReusePort(socket.reuse_port()?),
            OptionName::TypeOfService => {
                let bits =
                    if sends_ipv6(socket)? { socket.tclass_v6()? } else { socket.tos_v4()? };
                SocketOption::TypeOfService(u8::try_from(bits).unwrap_or(u8::MAX))
            }
            OptionName::Congestion => SocketOption::Congestion(text(&socket.tcp_congestion()?)),
            OptionName::BusyPoll => {
                SocketOption::BusyPoll(Duration::from_micros(socket.busy_poll()?.into()))
            }
            OptionName::Mark => SocketOption::Mark(socket.mark()?),
            OptionName::Device => SocketOption::Device(socket.device()?.map(|name| text(&name))),
            other => return Err(unsupported(&format!("{other:?}"))),
        })
    }

    pub(super) fn tcp_info(socket: &Socket) -> io::Result<TcpInfo> {
        raw_tcp_info(socket.as_raw_fd()).map(|raw| raw.info())
    }

    pub(super) fn count(socket: &Socket, what: KernelCount) -> io::Result<usize> {
        let fd = socket.as_raw_fd();
        match what {
            KernelCount::Unacked => queued(fd, SIOCOUTQ),
            KernelCount::Unsent => queued(fd, SIOCOUTQNSD),
            // Of a listener the kernel tells its backlog there (`tcp_get_info`).
            KernelCount::Backlog => Ok(raw_tcp_info(fd)?.u32(24) as usize),
        }
    }

    fn text(name: &[u8]) -> String {
        let text = name.split(|byte| *byte == 0).next().unwrap_or_default();
        String::from_utf8_lossy(text).into_owned()
    }

    /// A socket of IPv6 that takes IPv4, too, has one for each (`IP_TOS`, `ip(7)`; `IPV6_TCLASS`,
    /// `ipv6(7)`); a listener passes both on.
    fn set_type_of_service(socket: &Socket, bits: u32) -> io::Result<()> {
        let is_ipv6 = socket.local_addr()?.is_ipv6();
        if is_ipv6 {
            socket.set_tclass_v6(bits)?;
        }
        if is_ipv6 && socket.only_v6()? { Ok(()) } else { socket.set_tos_v4(bits) }
    }

    /// Returns whether what it sends are packets of IPv6.
    fn sends_ipv6(socket: &Socket) -> io::Result<bool> {
        let local = socket.local_addr()?.as_socket_ipv6();
        Ok(local.is_some_and(|addr| addr.ip().to_ipv4_mapped().is_none()))
    }

    /// Sets an option of TCP that is a number.
    fn set_int(socket: &Socket, name: i32, value: impl TryInto<libc::c_int>) -> io::Result<()> {
        let value: libc::c_int = value.try_into().unwrap_or(libc::c_int::MAX);
        let (fd, start) = (socket.as_raw_fd(), (&raw const value).cast());
        // SAFETY: `start` points to the four bytes of an integer.
        let result = unsafe { libc::setsockopt(fd, libc::IPPROTO_TCP, name, start, INT_LEN) };
        errno::check(result).map(drop)
    }

    fn int(socket: &Socket, name: i32) -> io::Result<u32> {
        let mut value: libc::c_int = 0;
        let mut len = INT_LEN;
        let (fd, start) = (socket.as_raw_fd(), (&raw mut value).cast());
        // SAFETY: `start` points to `len` bytes to write to.
        let result = unsafe { libc::getsockopt(fd, libc::IPPROTO_TCP, name, start, &mut len) };
        errno::check(result)?;
        Ok(u32::try_from(value).unwrap_or(0))
    }

    fn queued(fd: RawFd, request: libc::Ioctl) -> io::Result<usize> {
        let mut count: libc::c_int = 0;
        // SAFETY: `count` is the integer that these requests write.
        let result = unsafe { libc::ioctl(fd, request, &raw mut count) };
        errno::check(result)?;
        Ok(usize::try_from(count).unwrap_or(0))
    }

    /// A `struct tcp_info` (`linux/tcp.h`), as much of it as this kernel has.
    struct RawTcpInfo {
        bytes: [u8; TCP_INFO_MAX],
        len: usize,
    }

    fn raw_tcp_info(fd: RawFd) -> io::Result<RawTcpInfo> {
        let mut bytes = [0u8; TCP_INFO_MAX];
        let mut len = INFO_LEN;
        let start = bytes.as_mut_ptr().cast();
        // SAFETY: `start` points to `len` bytes to write to.
        let result =
            unsafe { libc::getsockopt(fd, libc::IPPROTO_TCP, libc::TCP_INFO, start, &mut len) };
        errno::check(result)?;
        Ok(RawTcpInfo { bytes, len: len as usize })
    }

    impl RawTcpInfo {
        fn info(&self) -> TcpInfo {
            let micros = |at| Duration::from_micros(self.u32(at).into());
            // All ones: there was nothing to measure or to bound yet.
            let measured = |at| Some(self.u32(at)).filter(|n| self.has(at, 4) && *n != u32::MAX);
            TcpInfo {
                rtt: micros(68),
                rtt_variance: micros(72),
                min_rtt: measured(148).map(|micros| Duration::from_micros(micros.into())),
                retransmit_timeout: micros(8),
                retransmits: self.bytes[2].into(),
                total_retransmits: self.u32(100),
                unacked_segments: self.u32(24),
                lost_segments: self.u32(32),
                congestion_window_segments: self.u32(80),
                segment_max_bytes: self.u32(16),
                delivery_rate: self.u64(160).filter(|rate| *rate > 0),
                pacing_rate: self.u64(104).filter(|rate| *rate != u64::MAX),
                acked_bytes: self.u64(120),
                arrived_bytes: self.u64(128),
                unsent_bytes: self.has(144, 4).then(|| self.u32(144)),
            }
        }

        fn has(&self, at: usize, len: usize) -> bool {
            at + len <= self.len
        }

        /// The number of 32 bits at an offset; 0 behind what this kernel has.
        #[allow(clippy::indexing_slicing, reason = "the offsets are constants within the array")]
        fn u32(&self, at: usize) -> u32 {
            let mut bytes = [0; 4];
            bytes.copy_from_slice(&self.bytes[at..at + 4]);
            u32::from_ne_bytes(bytes)
        }

        #[allow(clippy::indexing_slicing, reason = "the offsets are constants within the array")]
        fn u64(&self, at: usize) -> Option<u64> {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&self.bytes[at..at + 8]);
            self.has(at, 8).then(|| u64::from_ne_bytes(bytes))
        }
    }
}

/// What systems other than Linux have of it.
#[cfg(not(target_os = "linux"))]
mod system {
    use super::*;

    pub(super) fn set(socket: &Socket, option: &SocketOption) -> io::Result<()> {
        match option {
            #[cfg(unix)]
            SocketOption::ReuseAddress(on) => socket.set_reuse_address(*on),
            #[cfg(unix)]
            SocketOption::ReusePort(on) => socket.set_reuse_port(*on),
            other => {
                let _ = socket;
                Err(unsupported(&format!("{:?}", other.name())))
            }
        }
    }

    pub(super) fn get(socket: &Socket, name: OptionName) -> io::Result<SocketOption> {
        match name {
            #[cfg(unix)]
            OptionName::ReuseAddress => socket.reuse_address().map(SocketOption::ReuseAddress),
            #[cfg(unix)]
            OptionName::ReusePort => socket.reuse_port().map(SocketOption::ReusePort),
            other => {
                let _ = socket;
                Err(unsupported(&format!("{other:?}")))
            }
        }
    }

    pub(super) fn tcp_info(_: &Socket) -> io::Result<TcpInfo> {
        Err(unsupported("TCP_INFO"))
    }

    pub(super) fn count(_: &Socket, what: KernelCount) -> io::Result<usize> {
        Err(what.unsupported())
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use socket2::{Domain, Type};

    use super::*;

    #[test]
    fn what_was_not_measured_yet_is_not_told() {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let info = tcp_info(&socket).expect("Linux has it");
        assert_eq!((info.min_rtt, info.pacing_rate, info.delivery_rate), (None, None, None));
    }
}
