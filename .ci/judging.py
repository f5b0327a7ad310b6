"""Judges what both sides of a hurt network say about their connections, for `hurt`.

Each connection is one line of each side, as a dict of its fields; each thing that was done to the
network is a Deed. A connection that was hurt has to end for a reason that is true of what was done
to it; one that was not has to live, and to have brought every byte.
"""

from dataclasses import dataclass, field

# How exact the times are: a turn of a loop that shares its processor.
GRAIN_S = 0.2
# How long after a hole somebody may not get through: the SYN that comes next may be lost, too.
AFTER_S = 5

REFUSED, UNREACHABLE = {111}, {101, 113}
TIMED_OUT = 110

# What ends a connection that has fallen into a black hole: by group and side.
HOLE_REASONS = {
    ("deaf", "client"): "Timeout(Kernel)",
    ("deaf", "server"): "Timeout(Kernel)",
    ("idle", "client"): "Timeout(Idle)",
    ("idle", "server"): "Timeout(Idle)",
    ("stall", "client"): "Timeout(Idle)",
    ("stall", "server"): "Timeout(WriteStall)",
    ("silent", "client"): "Timeout(Kernel)",
    ("silent", "server"): "Timeout(Kernel)",
}
HOLE_GROUPS = sorted({group for group, _ in HOLE_REASONS})
# What those are told who never get through.
FRUITLESS = (("refused", "ConnectFailed(Errno(111))"), ("nowhere", "Timeout(Connect)"))
# Of a hole: how much of it a limit needs at least to have passed. Keepalive begins to count at the
# last sign of life, and the kernel at the first transmission that is not acknowledged.
HOLE_SHARE = 0.5


@dataclass
class Deed:
    """Something that was done to the network: reset, kill, hole, cut."""

    kind: str
    start: float
    end: float
    groups: tuple = ()
    # The clients' ports, of a kill.
    ports: tuple = ()
    what: str = ""
    # Segments that arrived in spite of a cut.
    arrived: int = 0

    def meets(self, conn):
        """Returns whether it was done to this connection, in its time."""
        if self.groups and conn["group"] not in self.groups:
            return False
        if self.ports and conn["port"] not in self.ports:
            return False
        after_s = AFTER_S if self.kind == "hole" else GRAIN_S
        return self.start - GRAIN_S <= conn["closed"] and conn["opened"] <= self.end + after_s


@dataclass
class Case:
    """Everything that is known when it is over."""

    deeds: list
    stopped_at: float
    limit_s: float
    groups: dict
    conns: list = field(default_factory=list)

    def side(self, side):
        return [conn for conn in self.conns if conn["side"] == side and conn["connected"]]

    def done(self, kind, conn):
        return [deed for deed in self.deeds if deed.kind == kind and deed.meets(conn)]


def parse(line):
    """Returns the fields of a line as a dict, numbers as such."""
    texts = ("side", "group", "reason", "name", "digest_in", "digest_out")
    pairs = (part.split("=", 1) for part in line.split()[1:] if "=" in part)
    return {
        key: value if key in texts else float(value) if "." in value else int(value)
        for key, value in pairs
    }


def judge(case):
    """Returns a list of everything that is not as it has to be."""
    wrong = []
    for conn in case.conns:
        for what in reason_faults(case, conn) + victim_faults(case, conn):
            wrong.append(f"{what}: {short(conn)}")
    wrong += pair_faults(case)
    wrong += survivor_faults(case)
    wrong += deed_faults(case)
    return wrong


def short(conn):
    names = ("side", "group", "tag", "port", "reason", "connected", "clean", "opened", "closed")
    return " ".join(f"{name}={conn[name]}" for name in names)


def reason_faults(case, conn):
    """A reason is true of what was done to the connection."""
    holds = is_true_of(case, conn)
    return [] if holds else ["nothing was done that this reason is true of"]


def is_true_of(case, conn):
    reason, group, connected = conn["reason"], conn["group"], conn["connected"]
    if not connected:
        return is_true_of_connect(case, conn)
    if reason == "PeerClosed":
        return bool(conn["clean"]) or was_given_up(case, conn)
    if reason == "LocalClose":
        return bool(conn["clean"]) and group == "churn" and conn["side"] == "server"
    if reason == "Reset":
        # When it is found has no bound: at the next retransmission that is not lost, and the time
        # between two of them doubles.
        return bool(case.done("reset", conn) + case.done("kill", conn))
    if reason == HOLE_REASONS.get((group, conn["side"])):
        return any(was_long_enough(case, hole, conn) for hole in case.done("hole", conn))
    return False


def was_given_up(case, conn):
    """The client's connect was done at the moment its time was up: it has not said a word."""
    is_wordless = conn["side"] == "server" and conn["tag"] == conn["received"] == 0
    return is_wordless and bool(case.done("hole", conn))


def was_long_enough(case, hole, conn):
    """The limit can have passed in the hole, and was not found to have passed much later."""
    earliest = max(hole.start + HOLE_SHARE * case.limit_s, conn["opened"] + case.limit_s / 2)
    return earliest <= conn["closed"] <= hole.end + AFTER_S


def is_true_of_connect(case, conn):
    reason, group = conn["reason"], conn["group"]
    if conn["side"] != "client":
        return False
    if reason == "LocalAbort":
        return conn["closed"] >= case.stopped_at - GRAIN_S
    errno = None
    if reason.startswith("ConnectFailed(Errno("):
        errno = int(reason.removeprefix("ConnectFailed(Errno(").rstrip(")"))
    if group == "refused":
        in_cut = bool(case.done("cut", conn))
        return errno in REFUSED or (in_cut and errno in UNREACHABLE)
    if group == "nowhere":
        in_cut = bool(case.done("cut", conn))
        return reason == "Timeout(Connect)" or (in_cut and errno in UNREACHABLE)
    if errno in REFUSED:
        return bool(case.done("reset", conn))
    if errno in UNREACHABLE:
        return bool(case.done("cut", conn))
    if reason == "Timeout(Connect)" or errno == TIMED_OUT:
        return bool(case.done("hole", conn))
    return False


def victim_faults(case, conn):
    """What was done to a connection for certain has ended it, for that reason."""
    faults = []
    if not conn["connected"]:
        return faults
    if conn["group"] in ("refused", "nowhere"):
        return ["it was connected"]
    for deed in case.deeds:
        was_there = conn["opened"] + 1 < deed.start < conn["closed"]
        if not was_there or not deed.meets(conn):
            continue
        if deed.kind == "kill" and conn["reason"] != "Reset":
            faults.append("its socket was destroyed")
        expected = HOLE_REASONS.get((conn["group"], conn["side"]))
        if deed.kind == "hole" and (
            conn["reason"] != expected or conn["closed"] > deed.end + AFTER_S
        ):
            faults.append("it outlived a black hole")
    return faults


def pair_faults(case):
    """Both sides of a connection agree, and neither has received what the other did not send."""
    wrong = []
    clients = {conn["tag"]: conn for conn in case.side("client")}
    servers = {}
    for conn in case.side("server"):
        if conn["tag"] in servers and conn["tag"]:
            wrong.append(f"accepted twice: {short(conn)}")
        servers[conn["tag"]] = conn
    for tag, server in servers.items():
        if tag and tag not in clients:
            wrong.append(f"nobody has dialled it: {short(server)}")
    for tag, client in clients.items():
        server = servers.get(tag)
        if server is None:
            # An accept that was reset on its way is nobody's; who was spoken to was accepted.
            if client["clean"] or client["received"]:
                wrong.append(f"nobody has accepted it: {short(client)}")
            continue
        for what in disagreements(client, server):
            wrong.append(f"{what}: {short(client)} / {short(server)}")
    return wrong


def disagreements(client, server):
    for sender, receiver in ((client, server), (server, client)):
        if receiver["received"] > sender["sent"]:
            yield f"{receiver['side']} received more than was sent"
        if receiver["frames_in"] > sender["frames_out"]:
            yield f"{receiver['side']} received more frames than were sent"
        if not client["clean"]:
            continue
        if receiver["received"] != sender["sent"] or receiver["bytes_in"] != sender["accepted"]:
            yield f"{receiver['side']} has not received all, at a clean end"
        if receiver["digest_in"] != sender["digest_out"]:
            yield f"{receiver['side']} has received other bytes"
    if client["clean"] != server["clean"]:
        yield "one side has ended cleanly, the other has not"
    if (client["reason"] == "Reset") != (server["reason"] == "Reset"):
        yield "one side was reset, the other was not"


def survivor_faults(case):
    """Whoever was only cut off for less than its limits lives to the end."""
    wrong = []
    for side in ("client", "server"):
        steady = [conn for conn in case.side(side) if conn["group"] == "steady"]
        if len(steady) != case.groups["steady"]:
            wrong.append(f"{len(steady)} steady connections at the {side}, not one each")
        for name in case.groups:
            at_end = [
                conn
                for conn in case.side(side)
                if conn["group"] == name and conn["clean"] and conn["closed"] >= case.stopped_at
            ]
            if name not in ("refused", "nowhere", "churn") and len(at_end) < case.groups[name]:
                wrong.append(f"{len(at_end)} of {name} at the {side} were there at the end")
    return wrong


def deed_faults(case):
    """Each deed has hurt somebody; otherwise nothing was shown."""
    wrong = []
    for deed in case.deeds:
        ended = [conn for conn in case.conns if deed.meets(conn) and conn["connected"]]
        resets = sum(conn["reason"] == "Reset" for conn in ended)
        if deed.kind == "kill" and resets != 2 * len(deed.ports):
            wrong.append(f"{deed.what}: {resets} resets of {len(deed.ports)} pairs")
        if deed.kind == "reset" and resets < 2:
            wrong.append(f"{deed.what}: has reset nobody")
        for name, side in HOLE_REASONS if deed.kind == "hole" else ():
            true = (name, side, HOLE_REASONS[name, side])
            dead = sum((conn["group"], conn["side"], conn["reason"]) == true for conn in ended)
            if name in deed.groups and dead < case.groups[name]:
                wrong.append(f"{deed.what}: only {dead} timeouts of {name} at the {side}")
    for group, reason in FRUITLESS:
        if not any(c["group"] == group and c["reason"] == reason for c in case.conns):
            wrong.append(f"{group}: none has ended as {reason}")
    return wrong


def show_that_it_can_fail():
    """Lies about a small case, one at a time; returns how many were told. Each has to be found."""
    assert judge(example()) == [], judge(example())
    lies = [
        # A reason that is another one's.
        ("steady", "client", "reason", "Reset"),
        ("steady", "server", "reason", "Timeout(Kernel)"),
        ("reset", "client", "reason", "Timeout(Kernel)"),
        ("reset", "server", "reason", "PeerClosed"),
        ("killed", "server", "reason", "Io(Errno(113))"),
        ("deaf", "client", "reason", "Reset"),
        ("deaf", "server", "reason", "Timeout(Idle)"),
        ("refused", "client", "reason", "Timeout(Connect)"),
        ("nowhere", "client", "reason", "ConnectFailed(Errno(111))"),
        ("churn", "client", "reason", "LocalClose"),
        # A time at which it cannot have happened.
        ("deaf", "client", "closed", 21.0),
        ("deaf", "server", "closed", 60.0),
        ("reset", "client", "closed", 9.0),
        ("reset", "server", "opened", 12.5),
        ("killed", "client", "opened", 16.0),
        # Bytes that are lost, or come from nowhere.
        ("steady", "server", "received", 999),
        ("steady", "client", "received", 1001),
        ("steady", "client", "bytes_in", 999),
        ("steady", "client", "digest_in", "b"),
        ("churn", "server", "frames_in", 11),
        ("reset", "client", "received", 1001),
        # An end that was not in order.
        ("steady", "client", "clean", 0),
        ("churn", "server", "clean", 0),
        ("refused", "client", "connected", 1),
    ]
    for group, side, name, value in lies:
        case = example()
        liar = next(c for c in case.conns if (c["group"], c["side"]) == (group, side))
        assert liar[name] != value, (group, side, name)
        liar[name] = value
        assert judge(case), f"not found: {name}={value} of {group} at the {side}"
    for index in range(len(example().conns)):
        case = example()
        gone = case.conns.pop(index)
        assert judge(case), f"not missed: {short(gone)}"
    return len(lies) + len(example().conns)


def example():
    """Makes a case that is right: what was done to a few connections, and how they ended."""
    deeds = [
        Deed("hole", 20, 42, groups=("deaf",), what="a hole"),
        Deed("reset", 10, 12, groups=("reset",), what="a reset"),
        Deed("kill", 15, 15, groups=("killed",), ports=(5,), what="a kill"),
    ]
    groups = {"steady": 1, "churn": 1, "reset": 0, "killed": 0, "deaf": 0, "refused": 1}
    case = Case(deeds, stopped_at=100, limit_s=12, groups=groups)
    reasons = {"steady": "PeerClosed", "churn": "PeerClosed", "reset": "Reset", "killed": "Reset"}
    closed = {"steady": 101.0, "churn": 50.0, "reset": 11.0, "killed": 15.0, "deaf": 33.0}
    for tag, name in enumerate(closed, 1):
        clean = int(name in ("steady", "churn"))
        for side in ("client", "server"):
            case.conns.append({
                "side": side, "group": name, "tag": tag, "port": tag + 1, "connected": 1,
                "clean": clean, "reason": reasons.get(name, "Timeout(Kernel)"), "opened": 1.0,
                "closed": closed[name], "accepted": 1000, "sent": 1000, "received": 1000,
                "bytes_in": 1000, "frames_in": 10, "frames_out": 10, "digest_in": "a",
                "digest_out": "a",
            })  # fmt: skip
    for name, reason in FRUITLESS:
        failed = {"group": name, "tag": 0, "port": 0, "connected": 0, "clean": 0, "received": 0}
        case.conns.append({**case.conns[0], **failed, "reason": reason, "closed": 9.0})
    return case
