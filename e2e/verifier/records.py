"""Frames and the bodies of the twelve kinds of record."""

from dataclasses import dataclass

from wire import Malformed, Reader, expect_version, sha256

MAX_FRAME = 4 * 1024 * 1024
MAX_STREAM = 65536
KINDS = {
    1: "SessionStart", 2: "Intent", 3: "Client", 4: "Server", 5: "Proxy", 6: "Outcome",
    7: "Approval", 8: "PolicyChanged", 9: "Masked", 10: "Finding", 11: "Gap", 12: "SessionEnd",
}
PHASES = {1: "Command", 2: "Prepare", 3: "Bind", 4: "Execute"}
DURABILITIES = {1: "Written", 2: "Synced", 3: "Replicated"}
VERDICTS = {1: "Allow", 2: "Deny", 3: "Hold", 4: "Observe"}
CLASSES = {1: "Command", 2: "Control", 3: "Refused"}
STATUSES = {1: "Completed", 2: "Failed", 3: "Cancelled", 4: "NotForwarded", 5: "Unknown"}
EVENTS = {
    1: "Requested", 2: "ReviewedApprove", 3: "ReviewedDeny", 4: "Granted", 5: "Denied",
    6: "Expired", 7: "Cancelled",
}
CAUSES = {1: "ClientClosed", 2: "TargetClosed", 3: "Terminated", 4: "Aborted"}


@dataclass
class Frame:
    """One record: its place, and its body as a dict."""

    kind: str
    ordinal: int
    sequence: int
    wall: int
    body: dict


def split(payload):
    """Cuts a payload into whole frames, each with its length."""
    at = 0
    while at < len(payload):
        reader = Reader(payload[at : at + 4])
        length = 4 + reader.u32()
        if length > MAX_FRAME:
            raise Malformed(f"a frame of {length} bytes")
        if at + length > len(payload):
            raise Malformed("a frame is cut short")
        yield payload[at : at + length]
        at += length


def chained(before, frame):
    """The chain after `frame`; `before` is None for a session's first frame."""
    return sha256(frame) if before is None else sha256(before, frame)


def read_frame(raw):
    """Reads a whole frame."""
    reader = Reader(raw)
    if reader.u32() + 4 != len(raw):
        raise Malformed("a frame's length is not its own")
    expect_version(reader)
    kind = reader.code(KINDS)
    ordinal, sequence, wall, _monotonic = (reader.u64() for _ in range(4))
    body = BODIES[kind](reader)
    reader.end()
    return Frame(kind, ordinal, sequence, wall, body)


def _claims(reader):
    claims = reader.many(lambda: (reader.text(), reader.text()))
    names = [name for name, _ in claims]
    if any(before >= after for before, after in zip(names, names[1:])):
        raise Malformed("claims are not ascending")
    return dict(claims)


def _session_start(reader):
    return {
        "session": reader.take(8),
        "attach": reader.take(8),
        "previous": reader.take(32),
        "subject": reader.text(),
        "delegate": reader.option(reader.text),
        "claims": _claims(reader),
        "connection": reader.text(),
        "target": reader.text(),
        "purpose": reader.option(reader.text),
        "protocol": reader.text(),
        "policy_digest": reader.text(),
    }


def _decision(reader):
    def would_be():
        return (reader.code(VERDICTS), reader.text(), reader.text(), reader.text())

    return {
        "verdict": reader.code(VERDICTS),
        "reason": reader.text(),
        "policy": reader.text(),
        "rule": reader.text(),
        "generation": reader.i64(),
        "rule_digest": reader.text(),
        "access": reader.option(reader.text),
        "approval": reader.option(reader.text),
        "would_be": reader.option(would_be),
    }


def _intent(reader):
    return {
        "truncated": reader.flag(),
        "phase": reader.code(PHASES),
        "asked": reader.code(DURABILITIES),
        "served": reader.code(DURABILITIES),
        "digest": reader.take(32),
        "refers_to": reader.option(reader.u64),
        "decision": _decision(reader),
        "summary": reader.text(),
        "accesses": reader.many(reader.text),
        "command": reader.text(),
        "parameters": reader.many(lambda: reader.option(reader.text)),
    }


def _stream(reader):
    spans = reader.many(lambda: (reader.u32(), reader.u32()))
    data = reader.blob()
    if len(data) > MAX_STREAM:
        raise Malformed(f"{len(data)} bytes in one frame")
    end = None
    for start, stop in spans:
        if stop <= start or stop > len(data) or (end is not None and start <= end):
            raise Malformed("masked spans are not ascending, apart and within")
        end = stop
    return {"spans": spans, "bytes": data}


def _client(reader):
    return {"class": reader.code(CLASSES), "intent": reader.u64(), **_stream(reader)}


def _outcome(reader):
    return {
        "intent": reader.u64(),
        "status": reader.code(STATUSES),
        "detail": reader.text(),
        "rows": reader.u64(),
        "bytes": reader.u64(),
        "duration": reader.u64(),
    }


def _approval(reader):
    return {
        "request": reader.text(),
        "event": reader.code(EVENTS),
        "reviewer": reader.option(reader.text),
        "authenticated": reader.flag(),
        "reason": reader.text(),
        "policy": reader.text(),
        "rule": reader.text(),
        "rule_digest": reader.text(),
    }


def _session_end(reader):
    names = ("records", "forwarded", "refused", "client_bytes", "server_bytes", "rows")
    return {
        "cause": reader.code(CAUSES),
        "reason": reader.option(reader.text),
        "detail": reader.text(),
        "totals": {name: reader.u64() for name in names},
    }


BODIES = {
    "SessionStart": _session_start,
    "Intent": _intent,
    "Client": _client,
    "Server": _stream,
    "Proxy": lambda r: {"purpose": r.text(), "bytes": r.blob()},
    "Outcome": _outcome,
    "Approval": _approval,
    "PolicyChanged": lambda r: {"previous": r.text(), "current": r.text(), "detail": r.text()},
    "Masked": lambda r: {"by": r.text(), "count": r.u64()},
    "Finding": lambda r: {"kind": r.text(), "detail": r.text()},
    "Gap": lambda r: {"records": r.u64(), "bytes": r.u64(), "why": r.text()},
    "SessionEnd": _session_end,
}
