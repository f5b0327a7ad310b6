//! Options of simulated sockets, and what their kernel tells of them.

use std::io;
use std::time::Duration;

use crate::backend::Sock;
use crate::socket_option::{KernelCount, OptionName, SocketOption, TcpInfo};

use super::end::EndIndex;
use super::machine::Socket;
use super::network::Network;
use super::trace::HostIndex;

/// The payload of a full segment, by which TCP counts.
const SEGMENT_BYTES: u32 = 1448;

impl Network {
    pub(super) fn set_option(
        &mut self,
        host: HostIndex,
        sock: &Sock,
        option: &SocketOption,
    ) -> io::Result<()> {
        match self.socket(host, sock) {
            Socket::Conn(index) => self.set_on_end(index, option),
            Socket::Listener(index) => self.listener(host, index).options.set(option),
            Socket::Nothing => panic!("an option of a listener that is closed: {sock:?}"),
        }
    }

    pub(super) fn option(
        &mut self,
        host: HostIndex,
        sock: &Sock,
        name: OptionName,
    ) -> SocketOption {
        match self.socket(host, sock) {
            Socket::Conn(index) => self.end_mut(index).options.get(name),
            Socket::Listener(index) => self.listener(host, index).options.get(name),
            Socket::Nothing => panic!("an option of a listener that is closed: {sock:?}"),
        }
    }

    /// Sets what a connection is to have from the start. As for an accepted one on Linux, what
    /// cannot be set is left out.
    pub(super) fn set_all(&mut self, index: EndIndex, options: &[SocketOption]) {
        for option in options {
            if let Err(error) = self.set_on_end(index, option) {
                log::warn!("a simulated connection goes on without an option: {error}");
            }
        }
    }

    /// Gives an accepted connection what its listener has, and then its own.
    pub(super) fn inherit_options(
        &mut self,
        host: HostIndex,
        listener: usize,
        index: EndIndex,
        own: &[SocketOption],
    ) {
        let inherited = self.listener(host, listener).options.inherited();
        let end = self.end_mut(index);
        end.send_max = inherited.send_buffer_bytes().unwrap_or(end.send_max);
        end.options = inherited;
        self.set_all(index, own);
    }

    fn set_on_end(&mut self, index: EndIndex, option: &SocketOption) -> io::Result<()> {
        let end = self.end_mut(index);
        end.options.set(option)?;
        end.send_max = end.options.send_buffer_bytes().unwrap_or(end.send_max);
        Ok(())
    }

    pub(super) fn tcp_info(&mut self, host: HostIndex, conn: &Sock) -> TcpInfo {
        let index = self.socket_end(host, conn);
        let end = self.end_mut(index);
        let (remote, held) = (end.remote_host, end.unacked);
        let mut info = TcpInfo {
            total_retransmits: end.retransmits,
            unacked_segments: segments(held),
            // There is no congestion here: what there is room for is sent.
            congestion_window_segments: segments(end.send_max).max(1),
            segment_max_bytes: SEGMENT_BYTES,
            acked_bytes: Some(end.sent_bytes - end.unacked as u64),
            arrived_bytes: Some(end.read_bytes + end.unread.len() as u64),
            unsent_bytes: Some(u32::try_from(end.unsent.len()).unwrap_or(u32::MAX)),
            ..TcpInfo::default()
        };
        if let Some(remote) = remote {
            let (there, back) = (self.spread(host, remote), self.spread(remote, host));
            info.rtt = there.0 + back.0 + (there.1 + back.1) / 2;
            info.rtt_variance = (there.1 + back.1) / 2;
            info.min_rtt = Some(there.0 + back.0);
            // RFC 6298 §2, and the least that Linux waits.
            info.retransmit_timeout =
                (info.rtt + 4 * info.rtt_variance).max(Duration::from_millis(200));
        }
        info
    }

    pub(super) fn kernel_count(
        &mut self,
        host: HostIndex,
        sock: &Sock,
        what: KernelCount,
    ) -> io::Result<usize> {
        match (self.socket(host, sock), what) {
            (Socket::Conn(index), KernelCount::Unacked) => {
                let end = self.end_mut(index);
                Ok(end.unsent.len() + end.unacked)
            }
            (Socket::Conn(index), KernelCount::Unsent) => Ok(self.end_mut(index).unsent.len()),
            (Socket::Listener(index), KernelCount::Backlog) => {
                Ok(self.listener(host, index).waiting.len())
            }
            _ => Err(what.unsupported()),
        }
    }
}

fn segments(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX).div_ceil(SEGMENT_BYTES)
}
