"""Runs programs, socat and nginx among them, for the checks in `clients`."""

import hashlib
import os
import re
import select
import socket
import subprocess
import threading

from serving import PATIENCE_S, await_true

CHUNK_BYTES = 1 << 16


class Program:
    """A program that is ended when the block is left, if it has not ended by itself.

    `given` is the file that is its standard input, or `subprocess.PIPE`.
    """

    def __init__(self, *command, given=subprocess.DEVNULL, errors=subprocess.DEVNULL):
        self.command = [str(word) for word in command]
        name = given if isinstance(given, str) else os.devnull
        with open(name, "rb") as file:
            self.process = subprocess.Popen(
                self.command,
                stdin=file if isinstance(given, str) else given,
                stdout=subprocess.PIPE,
                stderr=errors,
                bufsize=0,
            )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE_S)
        for pipe in [self.process.stdin, self.process.stdout, self.process.stderr]:
            if pipe:
                pipe.close()

    def say(self, data):
        """Writes to its standard input."""
        while data:
            data = data[self.process.stdin.write(data) :]

    def finish(self):
        """Closes its standard input."""
        self.process.stdin.close()

    def read(self, size):
        """Returns the next `size` bytes of its standard output, fewer at its end."""
        return self.read_until(lambda got: len(got) == size)

    def line(self):
        """Returns the next line of its standard output."""
        return self.read_until(lambda got: got.endswith(b"\n"))

    def read_until(self, is_enough):
        got = b""
        while not is_enough(got):
            # Byte by byte: what follows is for the next one who reads.
            if not select.select([self.process.stdout], [], [], PATIENCE_S)[0]:
                raise AssertionError(f"{self.command}: {got!r}, and no more in {PATIENCE_S} s")
            byte = self.process.stdout.read(1)
            if not byte:
                break
            got += byte
        return got

    def wait(self):
        """Waits until it ends by itself; returns its exit code."""
        return self.process.wait(PATIENCE_S)


class SocatServer(Program):
    """socat, listening on a free port of 127.0.0.1, with `other` as its far side."""

    def __init__(self, other, *options, listening="", given=subprocess.DEVNULL):
        listen = f"TCP-LISTEN:0,bind=127.0.0.1{listening}"
        command = ["socat", "-d", "-d", "-t", PATIENCE_S, *options, listen, other]
        super().__init__(*command, given=given, errors=subprocess.PIPE)
        self.port = None
        while self.port is None:
            line = self.process.stderr.readline().decode()
            if not line:
                self.__exit__()
                raise AssertionError(f"{self.command}: it does not listen")
            found = re.search(r"listening on AF=2 127\.0\.0\.1:([0-9]+)", line)
            self.port = int(found[1]) if found else None
        threading.Thread(target=self.drain_errors, daemon=True).start()

    def drain_errors(self):
        try:
            while os.read(self.process.stderr.fileno(), CHUNK_BYTES):
                pass
        except (OSError, ValueError):
            pass


class Digest(threading.Thread):
    """Reads a program's standard output to its end, beside whatever else there is to do."""

    def __init__(self, program):
        super().__init__(daemon=True)
        self.program = program
        self.sha = hashlib.sha256()
        self.size = 0
        self.start()

    def run(self):
        while chunk := os.read(self.program.process.stdout.fileno(), CHUNK_BYTES):
            self.sha.update(chunk)
            self.size += len(chunk)

    def result(self):
        """Returns the bytes' number and checksum once all have come."""
        self.join(2 * PATIENCE_S)
        if self.is_alive():
            return self.size, "and no end"
        return self.size, self.sha.hexdigest()


def digest_of(path):
    """Returns what `Digest.result` should be for a file."""
    with open(path, "rb") as file:
        return os.path.getsize(path), hashlib.sha256(file.read()).hexdigest()


def free_port():
    """Returns a port that was free a moment ago, for programs that cannot take one themselves."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


def await_port(port):
    """Waits until somebody listens."""

    def listens():
        try:
            socket.create_connection(("127.0.0.1", port), PATIENCE_S).close()
            return True
        except ConnectionRefusedError:
            return False

    await_true(f"port {port} listens", listens)


def ran(*command, given=None):
    """Runs a program to its end; returns exit code, standard output, standard error."""
    done = subprocess.run(
        [str(word) for word in command],
        input=given,
        stdin=subprocess.DEVNULL if given is None else None,
        capture_output=True,
        timeout=2 * PATIENCE_S,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr.decode(errors="replace")


NGINX = """
daemon off;
master_process off;
pid {root}/nginx.pid;
error_log {root}/error.log warn;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {root}/body;
    fastcgi_temp_path {root}/fastcgi;
    proxy_temp_path {root}/proxy;
    scgi_temp_path {root}/scgi;
    uwsgi_temp_path {root}/uwsgi;
    server {{
        listen 127.0.0.1:{port};
        root {root}/www;
    }}
}}
"""


def nginx(directory):
    """Starts nginx in the foreground, with all its files in `directory`; returns it and its port.

    It serves what is in `directory`/www.
    """
    root, port = os.path.realpath(directory), free_port()
    config = os.path.join(root, "nginx.conf")
    with open(config, "w", encoding="ascii") as file:
        file.write(NGINX.format(root=root, port=port))
    program = Program("nginx", "-c", config, "-p", root, "-e", f"{root}/error.log")
    try:
        await_port(port)
        return program, port
    except BaseException:
        program.__exit__()
        raise
