"""Writes stores: the same format from the other side, for whoever wants to deceive a verifier.

A `Log` is read from a good store, changed, and written again with every digest, chain and
signature in place that its forger has the keys for."""

import base64
import dataclasses
import json

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding, PublicFormat, load_pem_private_key,
)

from bundle import ORIGIN, PROOF, leaf_hash, node
from entries import MAGIC, read_attach, read_head, read_run, read_segment
from records import chained, split
from seal import identities, open_frames, read_seal, seal_frames, session_key
from store import ends, fingerprint, zstd
from wire import sha256

KINDS = {"attach": 1, "run": 2, "head": 3, "seal": 4}
READERS = {"attach": read_attach, "run": read_run, "head": read_head, "seal": read_seal}


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


def run_lead(r):
    """A run's header as far as its sealed frames are bound to it."""
    sealed = r.seal is not None
    return b"".join((
        u8(1 + sealed), u8(int(r.recovered) | 2 * int(r.ends)), r.signer, r.began, r.session,
        u64(r.ordinal), u64(r.first), u32(r.count), r.before, r.after, u64(r.first_wall),
        u64(r.last_wall), u32(r.length), u32(r.seal) + r.nonce if sealed else b"",
    ))


def seal_message(s):
    return b"".join((
        u8(1), s.attach, u32(s.number), u64(s.wall), s.commitment, u32(len(s.recipients)),
        *(text(recipient) for recipient in s.recipients), u32(len(s.wrapped)), s.wrapped,
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

    def __init__(self, entry, log):
        self.kind = entry.kind
        self.body = entry.body
        self.parts = READERS[entry.kind](entry.body)
        self.frames = None
        # What is put in the place of what the frames make.
        self.payload = None
        if self.kind == "seal":
            log.secrets[self.parts.attach, self.parts.number] = self.parts.secret(log.known)
        if self.kind == "run":
            payload = self.parts.payload
            if self.parts.seal is not None:
                payload = open_frames(
                    log.key_of(self.parts), self.parts.lead, self.parts.nonce, payload
                )
            self.frames = list(split(zstd.decompress(payload)))


class Log:
    """All of a store's segments, as lists of items."""

    def __init__(self, folder):
        self.folder = folder
        path = folder / "keys" / "seal.key"
        self.known = identities(path.read_text()) if path.exists() else []
        # By attach and number.
        self.secrets = {}
        self.paths = sorted((folder / "segments").glob("*.seg"))
        self.segments = [
            [Item(entry, self) for entry in read_segment(path.read_bytes()).entries]
            for path in self.paths
        ]
        self.log_key = load_pem_private_key((folder / "keys" / "log.key").read_bytes(), None)

    def key_of(self, run):
        return session_key(self.secrets[run.signer, run.seal], run.signer, run.session)

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
        sealed = item.parts.seal is not None
        parts = dataclasses.replace(
            item.parts, count=len(item.frames), after=chain, length=len(raw),
            before=bytes(32) if item.parts.first == 0 else before,
            ends=sealed and ends(item.frames),
        )
        lead = run_lead(parts)
        if sealed:
            payload = seal_frames(self.log.key_of(parts), lead, parts.nonce, payload)
        payload = item.payload or payload
        message = lead + sha256(payload) + u32(len(payload))
        return message + sign(self.key, "chaperone run v1", message) + payload

    def seal(self, item, _number, _before, _so_far):
        message = seal_message(item.parts)
        return message + sign(self.key, "chaperone seal v1", message)

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


# A cluster's log, as its operator writes it.


def certificate(log_key, store, pod):
    message = u8(1) + store + b"".join(text(pod[name]) for name in POD) + u64(1)
    return message + sign(log_key, "chaperone store v1", message)


POD = ("namespace", "pod", "uid", "account")


def tree_root(leaves):
    if len(leaves) == 1:
        return leaves[0]
    middle = 1 << (len(leaves) - 1).bit_length() - 1
    return node(tree_root(leaves[:middle]), tree_root(leaves[middle:]))


def path_of(index, leaves):
    """PATH of RFC 6962, section 2.1.1."""
    if len(leaves) == 1:
        return []
    middle = 1 << (len(leaves) - 1).bit_length() - 1
    if index < middle:
        return path_of(index, leaves[:middle]) + [tree_root(leaves[middle:])]
    return path_of(index - middle, leaves[middle:]) + [tree_root(leaves[:middle])]


def growth_of(old, leaves, known=True):
    """SUBPROOF of RFC 6962, section 2.1.2."""
    if old == len(leaves):
        return [] if known else [tree_root(leaves)]
    middle = 1 << (len(leaves) - 1).bit_length() - 1
    if old <= middle:
        return growth_of(old, leaves[:middle], known) + [tree_root(leaves[middle:])]
    return growth_of(old - middle, leaves[middle:], False) + [tree_root(leaves[:middle])]


def note_of(log_key, leaves):
    def base(data):
        return base64.b64encode(data).decode()

    signed = f"{ORIGIN}\n{len(leaves)}\n{base(tree_root(leaves))}\n"
    hint = sha256(ORIGIN.encode(), b"\n\x01", public(log_key))[:4]
    named = base(hint + log_key.sign(signed.encode()))
    return f"{signed}\n\N{EM DASH} {ORIGIN} {named}\n"


def proof_text(word, number, path, note):
    lines = [f"{word} {number}", *(base64.b64encode(step).decode() for step in path)]
    return ("\n".join(lines) + "\n\n" + note).encode()


def cluster_bundle(folder, rng):
    """A bundle of one pod's store in a log with other leaves around it: its files, the log's key
    as PEM, and the note of an earlier checkpoint."""
    log_key = Ed25519PrivateKey.from_private_bytes(rng.randbytes(32))
    log = Log(folder)
    store = public(log.log_key)
    pod = {"namespace": "shop", "pod": "report-1", "uid": "0-1-2", "account": "report"}
    things = [("Certificate", 0, 0, 1, certificate(log_key, store, pod))]
    for number, path in enumerate(sorted((folder / "segments").glob("*.seg")), 1):
        data = path.read_bytes()
        # One that is too long for one resource.
        cut = len(data) // 2 if number == 3 else len(data)
        pieces = [data[:cut], data[cut:]] if cut < len(data) else [data]
        things += [("Segment", number, part, len(pieces), p) for part, p in enumerate(pieces)]
    leaves, entries, files = [], [], {}
    for kind, number, part, parts, data in things:
        leaves += [rng.randbytes(32) for _ in range(rng.randrange(3))]
        entry = {
            "leaf": len(leaves), "kind": kind, "namespace": pod["namespace"], "pod": pod["pod"],
            "uid": pod["uid"], "store": store.hex(), "number": number, "part": part,
            "parts": parts, "digest": sha256(data).hex(),
        }
        entries.append(entry)
        leaves.append(leaf_hash(entry))
        files[f"entries/{entry['leaf']:012}"] = data
    note, earlier = note_of(log_key, leaves), len(leaves) // 2 + 1
    for entry in entries:
        index = entry["leaf"]
        proof = PROOF.encode() + proof_text("index", index, path_of(index, leaves), note)
        files[f"entries/{index:012}.tlog-proof"] = proof
    files[f"growth/{earlier:012}"] = proof_text("old", earlier, growth_of(earlier, leaves), note)
    files["checkpoint"] = note.encode()
    runs = [log.item(where).parts for where in log.items("run")]
    keys = {(r.signer, r.seal, r.session): log.key_of(r) for r in runs if r.seal is not None}
    files["data.keys"] = "".join(
        f"{a.hex()} {n} {s.hex()} {key.hex()}\n" for (a, n, s), key in sorted(keys.items())
    ).encode()
    pem = log_key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    files["log.pub"] = pem
    manifest = {
        "format": "chaperone bundle v1", "key": fingerprint(public(log_key)), "sessions": [],
        "entries": entries,
    }
    files["bundle.json"] = json.dumps(manifest).encode()
    return files, pem, note_of(log_key, leaves[:earlier])
