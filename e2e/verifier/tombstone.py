"""Tombstones: what of a log is gone, and what the rest of each store is verified from."""

from dataclasses import dataclass

from entries import read_attach, signed_by
from seal import read_seal
from wire import Malformed, Reader, expect_version


@dataclass
class Base:
    """A store up to its last segment that is gone."""
    certificate: bytes
    missing: int
    number: int
    digest: bytes
    attach: object = None
    heads: int = 0
    head: bytes = bytes(32)
    detached: bool = False
    highest: int = 0
    # Ordinal, session, last sequence, hash: of sessions that no head has named as closed.
    tails: tuple = ()
    seals: tuple = ()


@dataclass
class Tombstone:
    number: int
    checkpoint: int
    size: int
    entries: int
    # By the pod's UID and the store's key, where the store goes on.
    bases: dict


def read_base(reader, certificate, missing):
    base = Base(certificate, missing, reader.u64(), reader.take(32))
    if reader.flag():
        base.attach = read_attach(reader.blob())
        base.heads, base.head = reader.u64(), reader.take(32)
        base.detached, base.highest = reader.flag(), reader.u64()
        base.tails = reader.many(
            lambda: (reader.u64(), reader.take(8), reader.u64(), reader.take(32))
        )
        reader.many(lambda: (reader.u64(), reader.u32()))
        base.seals = [read_seal(body) for body in reader.many(reader.blob)]
    return base


def read_tombstone(data, log_key):
    """Reads what the log key has signed."""
    reader = Reader(data)
    expect_version(reader)
    number, _wall, _at_least, checkpoint = (reader.u64() for _ in range(4))
    reader.take(32)
    size, _segments, entries = (reader.u64() for _ in range(3))
    reader.take(16)
    reader.many(lambda: (reader.text(), reader.many(lambda: (reader.u64(), reader.u64()))))
    bases = {}

    def store():
        place = (reader.text(), reader.take(32))
        certificate, hold = reader.blob(), reader.text()
        _until, missing = reader.u64(), reader.u64()
        base = read_base(reader, certificate, missing)
        # What a hold keeps is below the tombstone, and in no bundle.
        if not hold:
            bases[place] = base

    reader.many(store)
    message = data[: reader.at]
    signature = reader.take(64)
    reader.end()
    if not signed_by(log_key, "chaperone tombstone v1", message, signature):
        raise Malformed("not signed by the log key")
    return Tombstone(number, checkpoint, size, entries, bases)
