"""Writes stores: the same format from the other side, for whoever wants to deceive a verifier.

A `Log` is read from a good store, changed, and written again with every digest, chain and
signature in place that its forger has the keys for."""

import dataclasses

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding, PublicFormat, load_pem_private_key,
)

from entries import MAGIC, read_attach, read_head, read_run, read_segment
from records import chained, split
from store import zstd
from wire import sha256

KINDS = {"attach": 1, "run": 2, "head": 3}


def u8(value):
    return value.to_bytes(1, "big")


def u32(value):
    return value.to_bytes(4, "big")


def u64(value):
    return value.to_bytes(8, "big")


def text(value):
    raw = value.encode()
    return u32(len(raw)) + raw


def public(key):
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def sign(key, domain, message):
    return key.sign(domain.encode() + b"\0" + message)


def attach_message(a):
    return b"".join((
        u8(1), u64(a.ordinal), a.id, a.key, a.log_key, a.previous, a.previous_head, u64(a.segment),
        a.segment_before, a.digest_key, u64(a.wall), text(a.subject), text(a.host),
        text(a.version), text(a.unrecovered),
    ))


def run_message(r):
    return b"".join((
        u8(1), u8(int(r.recovered)), r.signer, r.began, r.session, u64(r.ordinal), u64(r.first),
        u32(r.count), r.before, r.after, u64(r.first_wall), u64(r.last_wall), u32(r.length),
        r.payload_digest, u32(r.payload_length),
    ))


def head_message(h):
    def states(some):
        return u32(len(some)) + b"".join(u64(o) + i + u64(s) + c for o, i, s, c in some)

    return b"".join((
        u8(1), u8(int(h.detach)), h.attach, u64(h.number), h.previous, u64(h.segment),
        h.segment_before, u64(h.wall), u64(h.highest), states(h.open), states(h.closed),
    ))


class Item:
    """An entry: its body as it is, or parts that are put together when it is written."""

    def __init__(self, entry):
        self.kind = entry.kind
        self.body = entry.body
        self.parts = {"attach": read_attach, "run": read_run, "head": read_head}[entry.kind](
            entry.body
        )
        self.frames = None
        if self.kind == "run":
            self.frames = list(split(zstd.decompress(self.parts.payload)))


class Log:
    """All of a store's segments, as lists of items."""

    def __init__(self, folder):
        self.folder = folder
        self.paths = sorted((folder / "segments").glob("*.seg"))
        self.segments = [
            [Item(entry) for entry in read_segment(path.read_bytes()).entries]
            for path in self.paths
        ]
        self.log_key = load_pem_private_key((folder / "keys" / "log.key").read_bytes(), None)

    def items(self, *kinds):
        """Where each entry of these kinds is: (segment, place)."""
        return [
            (at, place)
            for at, segment in enumerate(self.segments)
            for place, item in enumerate(segment)
            if item.kind in kinds
        ]

    def item(self, where):
        return self.segments[where[0]][where[1]]

    def write(self, seal=None):
        """The segment files' bytes. `seal` makes an item's body where it is not kept as it was."""
        files, digest = [], bytes(32)
        for number, segment in enumerate(self.segments, 1):
            data = MAGIC + u64(number) + digest
            for item in segment:
                body = seal(item, number, digest, sha256(data)) if seal else item.body
                data += u8(KINDS[item.kind]) + u32(len(body)) + body
            digest = sha256(data)
            files.append(data + u8(0) + u32(36) + u32(len(segment)) + digest)
        return files


class Resealer:
    """Signs everything anew. Who has the log's key certifies keys of his own, and nothing but what
    the records say gives him away; who has not is caught at the first signature."""

    def __init__(self, log, log_key=None, certify=True, heads=True):
        self.log = log
        self.log_key = log_key or log.log_key
        # Whether attaches are signed anew: otherwise runs and heads are of a key nobody certified.
        self.certify = certify
        self.heads = heads
        self.key = None
        self.last_head = bytes(32)
        self.chains = {}
        self.last = {}

    def __call__(self, item, number, before, so_far):
        return getattr(self, item.kind)(item, number, before, so_far)

    def attach(self, item, number, before, _so_far):
        self.key = Ed25519PrivateKey.generate()
        if not self.certify:
            return item.body
        parts = dataclasses.replace(
            item.parts, key=public(self.key), log_key=public(self.log.log_key), segment=number,
            segment_before=before, previous_head=self.last_head,
        )
        self.last_head = bytes(32)
        message = attach_message(parts)
        return message + sign(self.log_key, "chaperone attach v1", message)

    def run(self, item, _number, _before, _so_far):
        place = (item.parts.began, item.parts.ordinal)
        # Where the forger dropped what came before, its own word is all there is.
        before = self.chains.get(place, item.parts.before)
        chain = None if item.parts.first == 0 else before
        for frame in item.frames:
            chain = chained(chain, frame)
        self.chains[place] = chain
        self.last[place] = item.parts.first + len(item.frames) - 1
        raw = b"".join(item.frames)
        payload = zstd.compress(raw)
        parts = dataclasses.replace(
            item.parts, count=len(item.frames), after=chain, length=len(raw),
            before=bytes(32) if item.parts.first == 0 else before,
            payload_digest=sha256(payload), payload_length=len(payload),
        )
        message = run_message(parts)
        return message + sign(self.key, "chaperone run v1", message) + payload

    def head(self, item, number, _before, so_far):
        parts = item.parts
        if self.heads:
            parts = dataclasses.replace(
                parts, open=self.states(parts.attach, parts.open),
                closed=self.states(parts.attach, parts.closed),
            )
        parts = dataclasses.replace(
            parts, previous=self.last_head, segment=number, segment_before=so_far
        )
        message = head_message(parts)
        body = message + sign(self.key, "chaperone head v1", message)
        self.last_head = sha256(body)
        return body

    def states(self, attach, states):
        """What a head would say of its sessions as they are now."""
        return [
            (o, i, self.last.get((attach, o), s), self.chains.get((attach, o), c))
            for o, i, s, c in states
        ]
