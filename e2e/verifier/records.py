"""Frames and the bodies of the twelve kinds of record."""

import re
from dataclasses import dataclass
from pathlib import Path

from wire import Malformed, Reader, expect_version, sha256

MAX_FRAME = 4 * 1024 * 1024
MAX_STREAM = 65536
MAX_ITEMS = 4096
MAX_PARAMETERS = 65535
HEADER = 38
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

# The page is where a reader learns them.
PAGE = Path(__file__).parents[2] / "evidence" / "FORMAT.md"
REASONS = set(re.search(r"```reasons\n(.*?)```", PAGE.read_text(), re.DOTALL)[1].split())


@dataclass
class Frame:
    """One record: its place and its body."""

    kind: int
    ordinal: int
    sequence: int
    wall: int
    body: bytes


def first_frame(data):
    """Cuts the frame at the front off; with a length or version that cannot be, Malformed."""
    reader = Reader(data)
    length = 4 + reader.u32()
    if not HEADER <= length <= MAX_FRAME:
        raise Malformed(f"a frame of {length} bytes")
    if length > len(data):
        raise Malformed("a frame is cut short")
    expect_version(reader)
    return data[:length], data[length:]


def split(payload):
    """Cuts a payload into whole frames, each with its length."""
    while payload:
        frame, payload = first_frame(payload)
        yield frame


def chained(before, frame):
    """The chain after `frame`; `before` is None for a session's first frame."""
    return sha256(frame) if before is None else sha256(before, frame)


def read_header(raw):
    """A whole frame's header: its body is still bytes."""
    reader = Reader(raw)
    reader.take(5)
    kind = reader.u8()
    ordinal, sequence, wall, _monotonic = (reader.u64() for _ in range(4))
    return Frame(kind, ordinal, sequence, wall, raw[HEADER:])


def read_body(kind, raw):
    """The body of a record, as the name of its kind and a dict."""
    if kind not in KINDS:
        raise Malformed(f"unknown kind {kind}")
    reader = Reader(raw)
    body = BODIES[KINDS[kind]](reader)
    reader.end()
    return KINDS[kind], body


def reason(reader):
    text = reader.text()
    if text not in REASONS:
        raise Malformed(f"unknown reason {text!r}")
    return text


def _claims(reader):
    claims = reader.many(lambda: (reader.text(), reader.text()), MAX_ITEMS)
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
        return (reader.code(VERDICTS), reason(reader), reader.text(), reader.text())

    return {
        "verdict": reader.code(VERDICTS),
        "reason": reason(reader),
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
        "accesses": reader.many(reader.text, MAX_ITEMS),
        "command": reader.text(),
        "parameters": reader.many(lambda: reader.option(reader.text), MAX_PARAMETERS),
    }


def _stream(reader):
    spans = reader.many(lambda: (reader.u32(), reader.u32()))
    data = reader.blob()
    if len(data) > MAX_STREAM:
        raise Malformed(f"{len(data)} bytes in one frame")
    end = 0
    for start, stop in spans:
        if stop <= start or stop > len(data) or start < end:
            raise Malformed("masked spans are not ascending and within")
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
        "reason": reader.option(lambda: reason(reader)),
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
