"""Runs an example as a server, for the checks beside this file."""

import os
import re
import select
import signal
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TARGET = os.path.join(ROOT, os.environ.get("CARGO_TARGET_DIR", "target"))
PATIENCE_S = 30

# A check that is told to end ends its servers first.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))


def binary(name):
    return os.path.join(TARGET, "release", "examples", name)


class Server:
    """An example on a free port of 127.0.0.1 that has said where it listens."""

    def __init__(self, name, *args, wrap=(), command=None, stderr=None, close_fds=True):
        self.name = name
        command = command or [*wrap, binary(name), "127.0.0.1:0", *args]
        pipes = {"stdout": subprocess.PIPE, "stderr": stderr, "bufsize": 0}
        self.process = subprocess.Popen(command, **pipes, cwd=ROOT, close_fds=close_fds)
        self.ended = False

    def __enter__(self):
        try:
            line = self.line()
            found = re.fullmatch(r"listening on 127\.0\.0\.1:([0-9]+)", line)
            if not found:
                raise AssertionError(f"{self.name}: the first line is {line!r}")
            self.port = int(found[1])
            return self
        except BaseException:
            self.process.kill()
            raise

    def __exit__(self, kind, *_):
        died = self.process.poll()
        self.end()
        if died is not None and kind is None and not self.ended:
            raise AssertionError(f"{self.name} died with {died}")

    def line(self):
        """Returns the next line of its standard output."""
        if not select.select([self.process.stdout], [], [], PATIENCE_S)[0]:
            raise AssertionError(f"{self.name}: nothing printed in {PATIENCE_S} s")
        return self.process.stdout.readline().decode().rstrip("\n")

    def wait(self):
        """Waits until it ends by itself; returns its exit code."""
        self.ended = True
        return self.process.wait(PATIENCE_S)

    def end(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(PATIENCE_S)

    def descriptors(self):
        """Returns how many descriptors it has open."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def wait_for_descriptors(self, count):
        """Waits until it has so many open: its connections have come, or are gone."""
        await_true(f"{self.name} has {count} descriptors", lambda: self.descriptors() == count)

    def memory_kib(self, field):
        """Returns a figure of /proc/PID/status, VmRSS or VmHWM (its peak)."""
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as status:
            return int(re.search(rf"^{field}:\s+([0-9]+) kB", status.read(), re.M)[1])


def await_true(what, holds):
    """Waits until something holds that tells nobody when it does."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {PATIENCE_S} s: {what}")
        time.sleep(0.005)


def receive(sock, size):
    """Returns the next `size` bytes, fewer at the end of the stream or after the time limit."""
    got = bytearray()
    while len(got) < size:
        try:
            chunk = sock.recv(size - len(got))
        except TimeoutError:
            break
        if not chunk:
            break
        got += chunk
    return bytes(got)


def receive_all(sock):
    """Returns everything up to the end of the stream."""
    got = bytearray()
    while chunk := sock.recv(1 << 16):
        got += chunk
    return bytes(got)


class Checks:
    """Counts what was as expected, and says what was not."""

    def __init__(self):
        self.good = 0
        self.bad = 0

    def equal(self, what, got, expected):
        self.true(what, got == expected, f"\n     got {got!r}\n  wanted {expected!r}")

    def true(self, what, holds, explanation=""):
        if holds:
            self.good += 1
        else:
            self.bad += 1
            print(f"WRONG {what}{explanation}")

    def finish(self):
        print(f"{self.good} as expected, {self.bad} not")
        sys.exit(1 if self.bad or not self.good else 0)
