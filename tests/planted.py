#!/usr/bin/env python3
"""Plants known mistakes in the core, one at a time, and sees to it that a test finds each.

    tests/planted.py [--runs N] [SEEDS [NAME...]]

Works on a copy of the tree under target/planted. For most mistakes the proof is the model test: it
prints how many fresh seeds that needed, in N runs (default 1); a mistake that survives SEEDS seeds
(default 10,000) fails. What the simulator or the model cannot show names the test binary that has
to fail, and the filter. A test that hangs has found the mistake, too.

A mistake fails as well if its text is not found any more: then the core has changed, and the
mistake has to be planted in its new shape.
"""

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
COPY = os.path.join(ROOT, "target", "planted")
PARTS = ["src", "tests", "examples", "benches", "Cargo.toml", "README.md"]
MODEL = "--test model fresh"
# No test takes as long, on a busy machine neither; that a mistake makes one hang has to be known.
LIMIT_S = 240
HANGING = {
    "cancelled timer of the same batch that fires",
    "frame over the limit that is waited for",
    "inherited listener that blocks",
    "interrupted wait that begins anew",
}
HANGING_LIMIT_S = 40

# Name, file, what stands there, what is put in its place; then the proof, if it is not the model
# test. Of several places each has its file and texts. Not among them is an `on_close` inside the
# call that causes it: nothing in `Net` has the handler, so that it does not compile.
MISTAKES = [
    ("generation check skipped", "src/id.rs",
     "match self.entries.get_mut(key.slot() as usize) {\n            Some(entry) if entry.key == key =>",
     "match self.entries.get_mut(key.slot() as usize) {\n            Some(entry) if entry.key.slot() == key.slot() =>"),
    ("run-list entry dropped after a budget", "src/event_loop/service.rs",
     "        self.net.serving = None;\n        self.net.schedule(id);\n",
     "        self.net.serving = None;\n"),
    ("ready bit cleared on success", "src/net/read.rs",
     "if *drained && conn.send_error.is_none() {", "if conn.send_error.is_none() {"),
    ("on_close twice", "src/event_loop/closing.rs",
     "        handler.on_close(&mut self.net, id, reason, dropped_bytes);\n",
     "        handler.on_close(&mut self.net, id, reason, dropped_bytes);\n"
     "        handler.on_close(&mut self.net, id, reason, dropped_bytes);\n"),
    ("partial send off by one", "src/conn/outbound.rs",
     "                node.start += left;\n", "                node.start += left - 1;\n"),
    ("rest of a staged send from its start", "src/conn/outbound.rs",
     "self.first = segments.unstage(sent)", "self.first = segments.unstage(0)"),
    ("stage that holds what another has left", "src/stage.rs",
     "        self.used = 0;\n        self.is_taken = true;", "        self.is_taken = true;"),
    ("staged send over the write budget", "src/net/write.rs",
     "staged(&self.segments, budget)", "staged(&self.segments, usize::MAX.max(budget))",
     "--test budgets short_answer"),
    ("run list that forgets who came meanwhile", "src/net/run_list.rs",
     "        self.keys.drain(..self.served);\n", "        self.keys.clear();\n"),
    ("stage that two queues have", "src/stage.rs",
     "        if self.is_taken {\n", "        if self.is_taken && self.used > self.bytes.len() {\n",
     "--lib a_service_that_is_not_ended"),
    ("queue that stays staged beyond its service", "src/net/write.rs",
     "        conn.outbound.unstage(&mut self.segments);\n", "",
     "--lib what_the_kernel_does_not_take"),
    ("staged bytes behind shared ones", "src/conn/outbound.rs",
     "        self.unstage(segments);\n        if !self.is_empty() {\n            let slack",
     "        if self.first != NONE {\n            let slack"),
    ("low-water off by one, too late", "src/conn/mod.rs",
     "self.outbound.cost() <= self.options.low_water_bytes",
     "self.outbound.cost() < self.options.low_water_bytes"),
    ("low-water off by one, too early", "src/conn/mod.rs",
     "self.outbound.cost() <= self.options.low_water_bytes",
     "self.outbound.cost() <= self.options.low_water_bytes + 1"),
    ("timer rounded down", "src/net/timers.rs",
     "self.timers.start(self.now + delay, Task::User { token })",
     "self.timers.start(Time::from_nanos((self.now + delay).as_nanos() / 1000 * 1000), "
     "Task::User { token })"),
    ("slot freed before its close ended", "src/net/close.rs",
     "== Close::Ended;\n", "!= Close::Ended || true;\n"),
    ("FIN before the queue is empty", "src/conn/mod.rs",
     "            && self.outbound.is_empty()\n            && matches!(self.phase, Phase::Open",
     "            && matches!(self.phase, Phase::Open"),
    ("pause that ignores kept bytes", "src/conn/mod.rs",
     "self.flags.any(Flags::SHOW_KEPT) && self.wants_read() && self.kept.is_some()",
     "self.flags.any(Flags::SHOW_KEPT) && self.phase == Phase::Open && self.kept.is_some()"),
    ("resume that forgets kept bytes", "src/net/read.rs",
     "if record.kept.is_some() || self.calling == Some(conn) {", "if self.calling == Some(conn) {"),
    ("EMFILE without a pause", "src/net/open.rs",
     "ErrorClass::Resource => self.pause_accepting(id, ListenerError::Paused(errno)),",
     "ErrorClass::Resource => Accepted::Done,"),
    ("abort that sends a FIN", "src/net/close.rs",
     "self.end(conn, CloseReason::LocalAbort, true);",
     "self.end(conn, CloseReason::LocalAbort, false);"),
    ("second send while one is in flight", "src/conn/mod.rs",
     "            && self.flags.any(Flags::WRITABLE)\n"
     "            && !self.flags.any(Flags::IN_FLIGHT)\n",
     "            && self.flags.any(Flags::WRITABLE)\n"),
    ("paused connection that does not learn of a reset", "src/net/close.rs",
     ".filter(|conn| conn.wants_verdict()) else {",
     ".filter(|conn| conn.wants_verdict() && !conn.flags.any(Flags::PAUSED)) else {"),
    ("queue not counted out at an end", "src/net/close.rs",
     "        self.stats.queued_bytes -= bytes as u64;\n", ""),
    ("linger without a deadline", "src/net/close.rs",
     "            conn.since = self.now;\n            self.arm_deadline(id);\n        }\n    }\n",
     "            conn.since = self.now;\n        }\n    }\n"),
    ("rest of a drain that is not told", "src/mailbox.rs",
     "            self.inbox.wakes.wake();\n", ""),
    ("mailbox that stays open without its loop", "src/mailbox.rs",
     ".for_each(|posts| posts.close());", ".for_each(|posts| _ = posts.is_empty());"),
    ("on_writable without pressure", "src/conn/mod.rs",
     "        self.flags.any(Flags::PRESSURED)\n            && !self.flags.any(Flags::STARVED)\n",
     "        self.flags.any(Flags::PRESSURED.or(Flags::WRITABLE))\n"
     "            && !self.flags.any(Flags::STARVED)\n"),
    ("write that answers Queued above the high-water mark", "src/net/write.rs",
     "    if conn.outbound.cost() <= conn.options.high_water_bytes {",
     "    if conn.outbound.cost() <= conn.options.high_water_bytes + 1 {"),
    ("end of stream before what was kept", "src/event_loop/service.rs",
     "        self.shown = self.net.take_kept(id);\n        let rest",
     "        self.net.discard_kept(id);\n        let rest"),
    ("end that loses bytes and sends a FIN", "src/net/close.rs",
     "if reset || bytes > 0 { Flags::RESET }", "if reset { Flags::RESET }"),
    ("stall behind a close told as the peer's", "src/conn/mod.rs",
     "matches!(self.reason, CloseReason::LocalClose | CloseReason::PeerClosed)",
     "self.reason == CloseReason::LocalClose",
     "--test regressions a_stall_behind"),
    ("hand-over that loses what was kept", "src/net/hand_over.rs",
     "        let mut unread = self.hand_out_kept(id);\n",
     "        self.discard_kept(id);\n        let mut unread = Vec::new();\n"),
    ("hand-over that loses what was queued", "src/net/hand_over.rs",
     "        self.write_shared(id, Bytes::from(queued));\n", "        drop(queued);\n"),
    ("hand-over that forgets the FIN it owes", "src/net/hand_over.rs",
     "                SendSide::FinOwed => Flags::SHUTDOWN,\n",
     "                SendSide::FinOwed => Flags::NONE,\n"),
    ("adoption that waits for new bytes to show old ones", "src/net/hand_over.rs",
     "            self.mark(id, Flags::SHOW_KEPT);\n", ""),
    ("release that does not wait for a send in flight", "src/net/hand_over.rs",
     "conn.phase == Phase::Releasing && !conn.flags.any(Flags::IN_FLIGHT)",
     "conn.phase == Phase::Releasing"),
    ("release with nothing in flight that nobody begins", "src/net/hand_over.rs",
     "        self.timers.cancel_owned(conn);\n        self.release_when_idle(conn);\n",
     "        self.timers.cancel_owned(conn);\n"),
    ("timers that outlive a release", "src/net/hand_over.rs",
     "        self.timers.cancel_owned(conn);\n        self.release_when_idle(conn);\n",
     "        self.release_when_idle(conn);\n"),
    ("abort that does not win over a release", "src/net/hand_over.rs",
     "        let conn = self.conns.get_mut(id.0).filter(|conn| is_releasable(conn))?;\n",
     "        let conn = self.conns.get_mut(id.0)?;\n"
     "        if !is_releasable(conn)\n"
     "            && !(conn.reason == CloseReason::LocalAbort\n"
     "                && !conn.flags.any(Flags::SOCK_CLOSING.or(Flags::IN_FLIGHT)))\n"
     "        {\n            return None;\n        }\n"),
    ("broken connection that is given away", "src/net/hand_over.rs",
     "if record.phase != Phase::Open || record.send_error.is_some() {",
     "if record.phase != Phase::Open {"),
    ("adoption over the hard limit", "src/net/hand_over.rs",
     "        if cost > options.hard_limit_bytes.bytes() {",
     "        if cost > options.hard_limit_bytes.bytes() + 4096 {"),
    ("lent buffer that is not released", "src/event_loop/service.rs",
     "        if let Some(lent) = self.lent.take() {\n            self.release(lent);\n        }\n    }\n\n"
     "    /// Shows kept",
     "        self.lent.take();\n    }\n\n    /// Shows kept"),
    # What has bitten other event loops.
    ("hang-up before data", "src/conn/mod.rs",
     "((self.flags.any(Flags::HANG_UP) && self.flags.any(unread))",
     "(self.flags.any(Flags::HANG_UP)",
     "--test reset before"),
    ("hang-up that is looked at for ever", "src/net/close.rs",
     "        conn.flags.clear(Flags::HANG_UP);\n        let found", "        let found",
     "--test quiet"),
    ("half-closed connection that does not learn of a reset", "src/conn/mod.rs",
     "        let unread = Flags::PAUSED.or(Flags::READ_CLOSED);\n",
     "        let unread = Flags::PAUSED;\n",
     "--test reset"),
    ("event of a paused connection dropped", "src/net/fold.rs",
     "        conn.sock.exhaust = exhaust;\n        conn.flags.set(bits);\n",
     "        if conn.flags.any(Flags::PAUSED) {\n            return;\n        }\n"
     "        conn.sock.exhaust = exhaust;\n        conn.flags.set(bits);\n"),
    ("input shown while paused", "src/conn/mod.rs",
     "            && !self.flags.any(Flags::PAUSED.or(Flags::READ_CLOSED))\n",
     "            && !self.flags.any(Flags::READ_CLOSED)\n"),
    ("accepting that ends with its budget", "src/event_loop/accept.rs",
     "        self.net.serving = None;\n        self.net.schedule_listener(id);\n",
     "        self.net.serving = None;\n",
     "--test accept budget"),
    ("accepting without a budget", "src/event_loop/accept.rs",
     "for _ in 0..self.net.config.accept_budget {", "for _ in 0..u32::MAX {",
     "--test accept budget"),
    ("connections over the limit", "src/net/open.rs",
     "self.conns.vacant_key().filter(|_| self.conns.len() < self.connections_max)",
     "self.conns.vacant_key()"),
    ("one connection's failed accept that ends the listener", "src/sys/errno.rs",
     "        EBADF | EFAULT | EINVAL | ENOTSOCK => ErrorClass::Fatal,\n        _ => ErrorClass::Retry",
     "        EBADF | EFAULT | EINVAL | ENOTSOCK | ECONNABORTED => ErrorClass::Fatal,\n"
     "        _ => ErrorClass::Retry"),
    ("failed send that ends the connection before its input", "src/net/write.rs",
     "            Some(errno) => self.send_failed(id, errno),\n            None",
     "            Some(errno) => self.fail(id, errno),\n            None",
     "--test reset before"),
    ("failed send that nobody reads up to", "src/net/write.rs",
     "        conn.flags.set(Flags::READABLE);\n        self.schedule(id);\n",
     "        self.schedule(id);\n",
     "--test reset a_failed_send"),
    ("write behind a shutdown", "src/conn/mod.rs",
     "        matches!(self.phase, Phase::Open | Phase::Connecting)\n"
     "            && !self.flags.any(Flags::SHUTDOWN)\n",
     "        matches!(self.phase, Phase::Open | Phase::Connecting)\n"),
    ("connection that ends twice", "src/net/close.rs",
     "self.conns.get(id.0).is_some_and(|conn| conn.phase != Phase::Ended)",
     "self.conns.get(id.0).is_some()"),
    ("write in another one's callback that is not flushed", "src/net/write.rs",
     "            queue.push_copy(&mut self.segments, data);\n        }\n        if !is_served {",
     "            queue.push_copy(&mut self.segments, data);\n        }\n"
     "        if self.serving.is_none() {", "--test writing"),
    ("on_writable for as long as it is written", "src/event_loop/service.rs",
     "        if self.net.crossed(id) {", "        while self.net.crossed(id) {",
     "--test pressure told_once_per_turn"),
    ("silent connection without a deadline", "src/net/open.rs",
     "        self.stats.accepted += 1;\n        self.arm_deadline(ConnId(key));\n",
     "        self.stats.accepted += 1;\n"),
    ("panic that leaves its connection", "src/net/close.rs",
     "            _ => self.end(id, CloseReason::HandlerPanicked, true),", "            _ => {}"),
    ("limit checked without overhead", "src/net/write.rs",
     "    conn.outbound.cost().saturating_add(cost) <= conn.options.hard_limit_bytes.bytes()\n"
     "        && buffered",
     "    conn.outbound.bytes().saturating_add(cost) <= conn.options.hard_limit_bytes.bytes()\n"
     "        && buffered"),
    ("hard limit overshot by a byte", "src/net/write.rs",
     "    conn.outbound.cost().saturating_add(cost) <= conn.options.hard_limit_bytes.bytes()\n"
     "        && buffered",
     "    conn.outbound.cost().saturating_add(cost)\n"
     "        <= conn.options.hard_limit_bytes.bytes().saturating_add(1)\n        && buffered"),
    ("buffers of all connections without a limit", "src/net/write.rs",
     "        && buffered.saturating_add(cost) <= write_limit\n",
     "        && buffered.saturating_add(cost) <= write_limit.max(usize::MAX)\n"),
    ("empty segment in the queue", "src/net/write.rs",
     "        if data.is_empty() {\n            return pressure(record, &mut self.stats);\n"
     "        }\n        let len = data.len();\n",
     "        let len = data.len();\n"),
    ("cancelled timer of the same batch that fires", "src/timer/mod.rs",
     "        let Some(timer) = self.timers.remove(id.0) else { return false };\n"
     "        self.disarm(id);\n",
     "        if self.timers.get(id.0).is_some() && self.due.iter().any(|entry| entry.key == id.0) {\n"
     "            return true;\n        }\n"
     "        let Some(timer) = self.timers.remove(id.0) else { return false };\n"
     "        self.disarm(id);\n"),
    ("zero timer in the same pass", "src/event_loop/mod.rs",
     "        while let Some(Due { id, task }) = net.timers.pop_due(net.now) {\n",
     "        while let Some(Due { id, task }) = {\n            net.timers.snapshot(net.now);\n"
     "            net.timers.pop_due(net.now)\n        } {\n"),
    ("wait that is counted from an old reading of the clock", "src/net/mod.rs",
     "let latest = self.refresh_now() + max_wait;", "let latest = self.now + max_wait;",
     "--test metrics"),
    ("infinite wait with a wake pending", "src/net/mod.rs", "            || self.woken\n", "",
     "--test panics behind_one_in_on_wake"),
    ("infinite wait with a post pending", "src/mailbox.rs",
     "            Ok(()) => {\n                self.waker.wake();\n", "            Ok(()) => {\n"),
    ("wake flag cleared behind on_wake", [
        ("src/wake.rs", "        self.posted.swap(false, Ordering::AcqRel)\n    }\n",
         "        self.posted.load(Ordering::Acquire)\n    }\n\n    pub(crate) fn clear(&self) {\n"
         "        self.posted.store(false, Ordering::Release);\n    }\n"),
        ("src/event_loop/mod.rs", "            handler.on_wake(net);\n",
         "            handler.on_wake(net);\n            net.wakes.clear();\n"),
    ]),
    ("post that runs in the drain it comes too late for", "src/mailbox.rs",
     "self.left = self.left.checked_sub(1)?;", "self.left = self.left.saturating_sub(1);",
     "--test mailbox at_its_beginning"),
    # The simulator has no descriptors, masks, signals and vectors: these need the system.
    ("no split at IOV_MAX", "src/backend/gather.rs",
     "if slices.len() + needed > SLICES_MAX || (small && !run.append(piece)) {",
     "if needed > SLICES_MAX || (small && !run.append(piece)) {", "--lib gather"),
    ("EINTR of a wait as an error", "src/sys/epoll.rs",
     "            Err(Errno(EINTR)) => 0,\n", "", "--test signals interrupts"),
    ("interrupted wait that begins anew", "src/sys/epoll.rs",
     "        let count = match self.wait_for(timeout.map(|timeout| timeout.min(LONGEST))) {\n"
     "            Ok(count) => count,\n            Err(Errno(EINTR)) => 0,\n"
     "            Err(errno) => return Err(errno.into()),\n        };\n",
     "        let count = loop {\n"
     "            match self.wait_for(timeout.map(|timeout| timeout.min(LONGEST))) {\n"
     "                Ok(count) => break count,\n                Err(Errno(EINTR)) => {}\n"
     "                Err(errno) => return Err(errno.into()),\n            }\n        };\n",
     "--test signals"),
    ("timeout rounded down to milliseconds", "src/sys/epoll.rs",
     "timeout.as_nanos().div_ceil(u128::from(NANOS_PER_MILLI))",
     "timeout.as_nanos() / u128::from(NANOS_PER_MILLI)", "--lib sys::epoll"),
    ("SIGPIPE for a dead peer", "src/sys/socket.rs",
     "libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;", "libc::MSG_DONTWAIT;", "--test signals sigpipe"),
    ("short receive taken for the last one", "src/backend/epoll.rs",
     "let drained = count < len && !conn.exhaust;", "let drained = count < len;",
     "--lib backend::epoll"),
    ("FIN that does not have the rest read", "src/backend/epoll.rs",
     "const EXHAUST: u32 = HANG_UP | epoll::RDHUP | epoll::PRI;",
     "const EXHAUST: u32 = HANG_UP | epoll::PRI;", "--lib backend::epoll"),
    ("listener that is watched by its level", "src/backend/epoll.rs",
     "const LISTENER_MASK: u32 = epoll::IN | epoll::ET;",
     "const LISTENER_MASK: u32 = epoll::IN;", "--test quiet"),
    ("connection that is watched by its level", "src/backend/epoll.rs",
     "epoll::IN | epoll::OUT | epoll::RDHUP | epoll::PRI | epoll::ET;",
     "epoll::IN | epoll::OUT | epoll::RDHUP | epoll::PRI;", "--test budgets idle"),
    ("closed socket that stays registered", "src/backend/epoll.rs",
     "-> Close {\n        self.unregister(sock);\n", "-> Close {\n", "--lib backend::epoll"),
    ("event of nobody that ends the process", "src/backend/epoll.rs",
     "    log::warn!(\"epoll reports {:#x}, which",
     "    panic!(\"epoll reports {:#x}, which", "--lib backend::epoll"),
    ("undecided connect taken for done", "src/backend/epoll.rs",
     "Err(Errno(errno::ENOTCONN)) => Connect::InProgress,",
     "Err(Errno(errno::ENOTCONN)) => Connect::Connected,", "--lib backend::epoll"),
    ("close in order that resets", "src/backend/epoll.rs",
     "        if reset {\n            socket::close_reset",
     "        if reset || true {\n            socket::close_reset", "--lib backend::epoll"),
    ("child that ends its parent's registrations", "src/backend/epoll.rs",
     "        // Deleting it would delete the parent's registration; it ends with the poller.\n",
     "        self.unregister(sock);\n", "--test fork"),
    ("accepted connection without its options", "src/backend/epoll.rs",
     "let prepare = |socket: &Socket| option::prepare(socket, options);",
     "let prepare = |_: &Socket| Ok(drop(options));", "--test socket_options"),
    ("listener leaked when it cannot be registered", "src/backend/epoll.rs",
     "        self.poller.add(listener.as_raw_fd(), LISTENER_MASK, key.bits())?;\n        Ok((listener",
     "        if let Err(error) = self.poller.add(listener.as_raw_fd(), LISTENER_MASK, key.bits()) {\n"
     "            std::mem::forget(listener);\n            return Err(error.into());\n        }\n"
     "        Ok((listener", "--test descriptors cannot_be_registered"),
    ("connecting socket leaked when it cannot be registered", "src/backend/epoll.rs",
     "        self.add_conn(&conn, key)?;\n",
     "        if let Err(error) = self.add_conn(&conn, key) {\n"
     "            std::mem::forget(conn);\n            return Err(error.into());\n        }\n",
     "--test descriptors cannot_be_registered"),
    ("accepted socket leaked when it cannot be registered", "src/backend/epoll.rs",
     "                Accept::Failed(errno::not_of_listener(error))\n",
     "                std::mem::forget(conn);\n"
     "                Accept::Failed(errno::not_of_listener(error))\n",
     "--test descriptors cannot_be_registered"),
    ("inherited listener that blocks", "src/sys/stream.rs",
     "    socket.set_nonblocking(true)?;\n    #[cfg(unix)]\n    socket.set_cloexec",
     "    #[cfg(unix)]\n    socket.set_cloexec", "--test hand_over_system inherited"),
    ("adopted descriptor that children inherit", "src/sys/stream.rs",
     "    socket.set_cloexec(true)?;\n", "",
     "--test hand_over_system passed_on"),
    ("large buffer that is kept for ever", "src/conn/inbound.rs",
     "if cost <= POOLED_MAX_BYTES && ", "if ", "--lib conn::inbound"),
    ("frame over the limit that is waited for", "src/framing/prefix.rs",
     ".filter(|len| *len <= max);", ".filter(|_| true);", "--test framing"),
]


def edits_of(mistake):
    return mistake[1] if isinstance(mistake[1], list) else [mistake[1:4]]


def proof_of(mistake):
    return mistake[4] if len(mistake) == 5 else MODEL


def copy_tree():
    for part in PARTS:
        source, target = os.path.join(ROOT, part), os.path.join(COPY, part)
        if os.path.isdir(source):
            shutil.rmtree(target, ignore_errors=True)
            # With times of this moment: what was built last may have had a mistake in it.
            shutil.copytree(source, target, copy_function=shutil.copyfile)
        else:
            os.makedirs(COPY, exist_ok=True)
            shutil.copyfile(source, target)


def read(path):
    with open(os.path.join(COPY, path)) as file:
        return file.read()


def write(path, text):
    with open(os.path.join(COPY, path), "w") as file:
        file.write(text)


def check_texts(mistakes):
    """Every text has to stand where it is said to, once."""
    moved = [f"{mistake[0]}: found {read(path).count(old)} times in {path}: plant it anew"
             for mistake in mistakes for path, old, _ in edits_of(mistake)
             if read(path).count(old) != 1]
    if moved:
        sys.exit("\n".join(moved))


def run(proof, seeds, limit_s=LIMIT_S):
    """Returns the status and the output; the status is None of a test that hangs."""
    env = dict(os.environ, HOTLOOP_SHRINK="0", CARGO_INCREMENTAL="1",
               CARGO_TARGET_DIR=os.path.join(COPY, "target"))
    env.pop("HOTLOOP_SEED", None)
    env.pop("HOTLOOP_SEEDS", None)
    env.pop("HOTLOOP_CHAOS", None)
    if proof == MODEL:
        env["HOTLOOP_SEEDS"] = str(seeds)
    target, filters = re.fullmatch(r"(--lib|--test \w+) ?(.*)", proof).groups()
    command = ["cargo", "test", "-q", "--release", *target.split()]
    # What does not compile is nobody's finding.
    build = subprocess.run([*command, "--no-run"], cwd=COPY, env=env, text=True,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if build.returncode != 0:
        sys.exit(f"does not compile:\n{build.stdout[-3000:]}")
    test = subprocess.Popen([*command, *filters.split(), "--", "--nocapture"], cwd=COPY, env=env,
                            text=True, errors="replace", start_new_session=True,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        output, _ = test.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        os.killpg(test.pid, signal.SIGKILL)
        return None, test.communicate()[0]
    return test.returncode, output


def finding(proof, seeds, may_hang):
    """Returns how a mistake that is planted was found; None if it was not."""
    status, output = run(proof, seeds, HANGING_LIMIT_S if may_hang else LIMIT_S)
    if status == 0:
        return None
    if status is None:
        return "by a test that hangs" if may_hang else None
    why = re.search(r"panicked at [^\n]*\n([^\n]*)", output)
    why = why.group(1)[:70] if why else ""
    if proof != MODEL:
        failed = re.search(r"(\d+) failed", output)
        return f"{failed.group(1) if failed else 'all'} failed; {why}"
    needed = re.search(r"failed after (\d+) seeds?", output)
    # A mistake may hang or abort the process before the test has said anything.
    return f"after {needed.group(1)} seeds; {why}" if needed else f"without a seed; {why}"


def check_sound(proofs, seeds):
    """Without a mistake every proof passes, the model test with as many seeds, and is there."""
    for proof in proofs:
        status, output = run(proof, seeds)
        passed = sum(int(count) for count in re.findall(r"(\d+) passed", output))
        if status != 0 or passed == 0:
            print(output[-3000:])
            sys.exit(f"{proof} fails without any mistake, or tests nothing")


def find(mistake, seeds, runs):
    before = {path: read(path) for path, _, _ in edits_of(mistake)}
    for path, old, new in edits_of(mistake):
        write(path, read(path).replace(old, new))
    try:
        may_hang = mistake[0] in HANGING
        return [finding(proof_of(mistake), seeds, may_hang) for _ in range(runs)]
    finally:
        for path, text in before.items():
            write(path, text)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("seeds", type=int, nargs="?", default=10_000)
    parser.add_argument("names", nargs="*")
    wanted = parser.parse_args()
    unknown = set(wanted.names) - {one[0] for one in MISTAKES}
    if unknown:
        sys.exit(f"no such mistake: {', '.join(sorted(unknown))}")
    chosen = [one for one in MISTAKES if not wanted.names or one[0] in wanted.names]
    # One proof after the other: a change of the binary costs a build more.
    chosen.sort(key=lambda mistake: (proof_of(mistake) != MODEL, proof_of(mistake)))
    copy_tree()
    check_texts(chosen)
    check_sound(sorted({proof_of(mistake) for mistake in chosen}), wanted.seeds)
    survivors = []
    for mistake in chosen:
        began = time.monotonic()
        found = find(mistake, wanted.seeds, wanted.runs)
        if None in found:
            survivors.append(mistake[0])
            print(f"SURVIVED {proof_of(mistake)}: {mistake[0]}", flush=True)
        else:
            took_s = time.monotonic() - began
            print(f"found: {mistake[0]}: {' | '.join(found)} ({took_s:.0f} s)", flush=True)
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} mistakes found")
    sys.exit(1 if survivors else 0)


main()
