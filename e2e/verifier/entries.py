"""Segments, the entries in them, and the signatures over those."""

from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from wire import Break, Malformed, Reader, expect_version, sha256

MAGIC = b"CHSEG1\r\n"
ENTRY_KINDS = {1: "attach", 2: "run", 3: "head", 4: "seal"}


def signed_by(key, domain, message, signature):
    """Whether `signature` is of `key` over the domain, where there is one, and the message."""
    lead = b"" if domain is None else domain.encode() + b"\0"
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, lead + message)
        return True
    except (InvalidSignature, ValueError):
        return False


@dataclass
class Entry:
    kind: str
    body: bytes
    # H of the segment before this entry.
    before: bytes


@dataclass
class Segment:
    number: int
    previous: bytes
    entries: list
    # What its end says of it; None where that is not reached.
    digest: bytes | None = None
    # Why it is not whole and unchanged, if it is not.
    unsound: str | None = None


def read_segment(data):
    """Reads a segment file as far as its entries can be told apart."""
    reader = Reader(data)
    if reader.take(len(MAGIC)) != MAGIC:
        raise Malformed("not a segment")
    segment = Segment(reader.u64(), reader.take(32), [])
    try:
        _read_entries(reader, segment)
    except Malformed as error:
        segment.unsound = str(error)
    return segment


def _read_entries(reader, segment):
    while True:
        start = reader.at
        kind = reader.u8()
        if kind == 0:
            break
        body = reader.blob()
        before = sha256(reader.data[:start])
        segment.entries.append(Entry(ENTRY_KINDS.get(kind), body, before))
    end = Reader(reader.blob())
    count, digest = end.u32(), end.take(32)
    end.end()
    reader.end()
    segment.digest = digest
    if count != len(segment.entries):
        raise Malformed(f"{len(segment.entries)} entries, not the {count} it says")
    if digest != sha256(reader.data[:start]):
        raise Malformed("the digest is another")


@dataclass
class Attach:
    ordinal: int
    id: bytes
    key: bytes
    log_key: bytes
    previous: bytes
    previous_head: bytes
    segment: int
    segment_before: bytes
    digest_key: bytes
    wall: int
    subject: str
    host: str
    version: str
    unrecovered: str
    signature: bytes
    message: bytes
    body: bytes


def read_attach(body):
    reader = Reader(body)
    expect_version(reader)
    attach = Attach(
        reader.u64(), reader.take(8), reader.take(32), reader.take(32), reader.take(8),
        reader.take(32), reader.u64(), reader.take(32), reader.take(32), reader.u64(),
        reader.text(), reader.text(), reader.text(), reader.text(), reader.take(64), body[:-64],
        body,
    )
    reader.end()
    return attach


@dataclass
class Run:
    recovered: bool
    signer: bytes
    began: bytes
    session: bytes
    ordinal: int
    first: int
    count: int
    before: bytes
    after: bytes
    first_wall: int
    last_wall: int
    length: int
    payload_digest: bytes
    payload_length: int
    signature: bytes
    payload: bytes
    message: bytes
    # Of a sealed one: the number of its seal, its nonce, whether it ends its session, and what of
    # the header its frames are bound to.
    seal: int | None = None
    nonce: bytes = b""
    ends: bool = False
    lead: bytes = b""

    @property
    def last(self):
        return self.first + self.count - 1


def read_run(body):
    reader = Reader(body)
    version, flags = reader.u8(), reader.u8()
    if version not in (1, 2) or flags >= 1 << version:
        raise Malformed(f"version {version}, flags {flags}")
    values = [
        flags & 1 == 1, reader.take(8), reader.take(8), reader.take(8), reader.u64(),
        reader.u64(), reader.u32(), reader.take(32), reader.take(32), reader.u64(), reader.u64(),
        reader.u32(),
    ]
    sealed = (reader.u32(), reader.take(12), flags & 2 == 2) if version == 2 else ()
    lead = body[: reader.at]
    values += [reader.take(32), reader.u32()]
    message = body[: reader.at]
    signature = reader.take(64)
    run = Run(*values, signature, reader.take(values[-1]), message, *sealed)
    run.lead = lead
    reader.end()
    if run.count == 0 or run.first + run.count >= 1 << 64:
        raise Malformed("no sequences, or too high ones")
    return run


@dataclass
class Head:
    detach: bool
    attach: bytes
    number: int
    previous: bytes
    segment: int
    segment_before: bytes
    wall: int
    highest: int
    open: list
    closed: list
    signature: bytes
    message: bytes


def read_head(body):
    reader = Reader(body)
    expect_version(reader)

    def state():
        return (reader.u64(), reader.take(8), reader.u64(), reader.take(32))

    head = Head(
        reader.flag(), reader.take(8), reader.u64(), reader.take(32), reader.u64(),
        reader.take(32), reader.u64(), reader.u64(), reader.many(state), reader.many(state),
        reader.take(64), body[:-64],
    )
    reader.end()
    for states in (head.open, head.closed):
        ordinals = [state[0] for state in states]
        if any(before >= after for before, after in zip(ordinals, ordinals[1:])):
            raise Malformed("ordinals are not ascending")
    return head


def require(holds, reason, detail, session=None, sequence=None):
    """One line a check."""
    if not holds:
        raise Break(reason, detail, session, sequence)
