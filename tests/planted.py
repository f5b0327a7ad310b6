#!/usr/bin/env python3
"""Plants known mistakes in the core, one at a time, and sees to it that the model test finds each.

    tests/planted.py [SEEDS [NAME...]]

Works on a copy of the tree under target/planted. For each mistake it prints how many seeds the
model test needed, in several runs with fresh seeds; a mistake that survives SEEDS seeds (default
10,000) fails. So does one whose text is not found any more: then the core has changed, and the
mistake has to be planted in its new shape.
"""

import os
import re
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
COPY = os.path.join(ROOT, "target", "planted")
PARTS = ["src", "tests", "examples", "benches", "Cargo.toml", "README.md"]
RUNS = 3

# Name, file, what stands there, what is put in its place.
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
     "self.reason == CloseReason::LocalClose"),
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
]


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


def plant(path, text, mistake):
    if text.count(mistake[2]) != 1:
        sys.exit(f"{mistake[0]}: found {text.count(mistake[2])} times in {mistake[1]}: plant it anew")
    with open(path, "w") as file:
        file.write(text.replace(mistake[2], mistake[3]))


def run_model(seeds):
    """Returns how many seeds were run until one failed; None if none did."""
    env = dict(os.environ, HOTLOOP_SEEDS=str(seeds), HOTLOOP_SHRINK="0",
               CARGO_INCREMENTAL="1", CARGO_TARGET_DIR=os.path.join(COPY, "target"))
    env.pop("HOTLOOP_SEED", None)
    command = ["cargo", "test", "-q", "--release", "--test", "model", "fresh", "--", "--nocapture"]
    done = subprocess.run(command, cwd=COPY, env=env, text=True, errors="replace",
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode == 0:
        return None
    found = re.search(r"failed after (\d+) seeds?", done.stdout)
    if not found:
        print(done.stdout[-3000:])
        sys.exit("the model test ended without saying after how many seeds")
    why = re.search(r"seed (\d+): panicked at [^\n]*\n([^\n]*)", done.stdout)
    return int(found.group(1)), f"seed {why.group(1)}: {why.group(2)[:70]}" if why else ""


def main():
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    unknown = set(sys.argv[2:]) - {one[0] for one in MISTAKES}
    if unknown:
        sys.exit(f"no such mistake: {', '.join(sorted(unknown))}")
    chosen = [one for one in MISTAKES if not sys.argv[2:] or one[0] in sys.argv[2:]]
    copy_tree()
    if run_model(200) is not None:
        sys.exit("the model test fails without any mistake")
    survivors = []
    for mistake in chosen:
        path = os.path.join(COPY, mistake[1])
        with open(path) as file:
            text = file.read()
        plant(path, text, mistake)
        try:
            found = [run_model(seeds) for _ in range(RUNS)]
        finally:
            with open(path, "w") as file:
                file.write(text)
        if None in found:
            survivors.append(mistake[0])
            print(f"SURVIVED {seeds} seeds: {mistake[0]}", flush=True)
        else:
            needed = ", ".join(str(count) for count, _ in found)
            print(f"found: {mistake[0]}: after {needed} seeds; {found[0][1]}", flush=True)
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} mistakes found")
    sys.exit(1 if survivors else 0)


main()
