"""A bundle: stores cut out of a log, with proofs; the log's public key is all it takes."""

import base64
import json
import re
import tempfile
from pathlib import Path

from entries import require, signed_by
from seal import Ring, decrypt
from store import Store, fingerprint, public_key
from tombstone import read_tombstone
from unsealing import read_unsealing
from wire import Break, Malformed, Reader, expect_version, sha256

BLOCK = 512
ORIGIN = "chaperone.dev/log"
PROOF = "c2sp.org/tlog-proof@v1\n"
KINDS = ("Certificate", "Segment", "Tombstone", "Unseal")
# What an entry of the manifest has, and of what type.
FIELDS = {
    "leaf": int, "kind": str, "namespace": str, "pod": str, "uid": str, "store": str,
    "number": int, "part": int, "parts": int, "digest": str,
}


# The tar file.


def header(name, size):
    """The one header that a file of this name and size has."""
    def octal(value, digits):
        return f"{value:0{digits}o}".encode() + b"\0"

    raw = name.encode().ljust(100, b"\0")
    raw += octal(0o644, 7) + octal(0, 7) * 2 + octal(size, 11) + octal(0, 11)
    rest = b"0" + bytes(100) + b"ustar\x0000" + bytes(64) + bytes(16) + bytes(155) + bytes(12)
    return raw + octal(sum(raw) + 8 * 0x20 + sum(rest), 7) + rest


def pack(files):
    """The tar of some files."""
    parts = []
    for name, data in sorted(files.items()):
        parts += [header(name, len(data)), data, bytes(-len(data) % BLOCK)]
    return b"".join(parts) + bytes(2 * BLOCK)


def unpack(data):
    """The files of a bundle, which must be written as the format says."""
    files, at = {}, 0
    while data[at : at + BLOCK].strip(b"\0"):
        head = data[at : at + BLOCK]
        try:
            name = head[:100].rstrip(b"\0").decode()
            size = int(head[124:135], 8)
        except ValueError as error:
            raise Malformed(str(error)) from error
        files[name] = data[at + BLOCK : at + BLOCK + size]
        at += BLOCK + size + -size % BLOCK
    if pack(files) != data:
        raise Malformed("it is not written as a bundle is")
    return files


# Notes and trees.


def open_note(text, key):
    """Size and root of a signed note."""
    try:
        lines = text.decode().split("\n")
        origin, size, root, empty = lines[:4]
        root = base64.b64decode(root, validate=True)
        signed = f"{origin}\n{int(size)}\n{base64.b64encode(root).decode()}\n"
        good = text.decode().startswith(signed + "\n") and origin == ORIGIN and len(root) == 32
    except ValueError as error:
        raise Malformed(str(error)) from error
    hint = sha256(ORIGIN.encode(), b"\n\x01", key)[:4]
    for line in lines[4:]:
        lead = f"\N{EM DASH} {ORIGIN} "
        if good and line.startswith(lead):
            try:
                named = base64.b64decode(line[len(lead):], validate=True)
            except ValueError:
                continue
            if named[:4] == hint and signed_by(key, None, signed.encode(), named[4:]):
                return int(size), root
    raise Malformed("not signed by the log key")


def node(left, right):
    return sha256(b"\1", left, right)


def root_by_path(leaf, index, size, path):
    """The root that an inclusion proof leads to, by the definition of the path itself."""
    if size == 1:
        if path:
            raise Malformed("a path that is too long")
        return leaf
    if not path:
        raise Malformed("a path that is too short")
    middle = 1 << (size - 1).bit_length() - 1
    if index < middle:
        return node(root_by_path(leaf, index, middle, path[:-1]), path[-1])
    return node(path[-1], root_by_path(leaf, index - middle, size - middle, path[:-1]))


def roots_by_growth(old, size, path, known):
    """Both roots that a consistency proof leads to; `known` is the old root where it is asked."""
    if old == size:
        if known is not None:
            if path:
                raise Malformed("a path that is too long")
            return known, known
        if len(path) != 1:
            raise Malformed("a path of another length")
        return path[0], path[0]
    if not path:
        raise Malformed("a path that is too short")
    middle = 1 << (size - 1).bit_length() - 1
    if old <= middle:
        before, now = roots_by_growth(old, middle, path[:-1], known)
        return before, node(now, path[-1])
    before, now = roots_by_growth(old - middle, size - middle, path[:-1], None)
    return node(path[-1], before), node(path[-1], now)


def read_proof(text, word):
    """The number, the hashes and the note of a proof."""
    try:
        head, note = text.decode().split("\n\n", 1)
        first, *rest = head.split("\n")
        number = int(first.removeprefix(word + " "))
        path = [base64.b64decode(line, validate=True) for line in rest]
        again = "\n".join([f"{word} {number}", *(base64.b64encode(h).decode() for h in path)])
    except ValueError as error:
        raise Malformed(str(error)) from error
    if again != head or any(len(step) != 32 for step in path):
        raise Malformed("not written as it must be")
    return number, path, note.encode()


def leaf_hash(entry):
    text = (
        f"chaperone entry v1\n{entry['kind']} {entry['namespace']} {entry['pod']} {entry['uid']}\n"
        f"{entry['store']} {entry['number']} {entry['part']}/{entry['parts']}\n{entry['digest']}\n"
    )
    return sha256(b"\0", text.encode())


# The bundle.


class Bundle:
    """Verifies a bundle; raises the first Break. Counts as `Store` does."""

    def __init__(self, path, key=None, held=None, ring=None):
        self.path = path
        self.key = key
        self.held = held
        self.ring = ring or Ring()
        self.manifest = {"sessions": []}
        self.stores = []
        # Who was given keys of its sessions.
        self.unsealings = []
        self.removed = None

    def verify(self):
        try:
            files = unpack(self.path.read_bytes())
        except Malformed as error:
            raise Break("BundleInvalid", str(error), file=str(self.path)) from error
        self.placed("log.pub", self.log_public, files)
        self.placed("bundle.json", self.read_manifest, files)
        self.placed("data.keys", self.data_keys, files.get("data.keys"))
        self.placed("data.keys.age", self.wrapped_keys, files.get("data.keys.age"))
        with tempfile.TemporaryDirectory() as scratch:
            if "checkpoint" in files:
                self.of_log(files, Path(scratch))
            else:
                self.of_folder(files, Path(scratch))
        there = {s.hex() for store in self.stores for s in store.session_ids}
        for session in self.manifest["sessions"]:
            self.placed("bundle.json", require, session in there, "SessionMissing", session)

    def asked_and_sealed(self):
        """Whether a session that it was made for could not be opened; any, if it names none."""
        sealed = {session.hex() for store in self.stores for session in store.sealed}
        asked = set(self.manifest["sessions"])
        return bool(sealed & asked if asked else sealed)

    def data_keys(self, data):
        try:
            if data is not None:
                self.ring.take(data.decode())
        except (ValueError, Malformed) as error:
            raise Break("BundleInvalid", str(error)) from error

    def wrapped_keys(self, file):
        if file is None or not self.ring.known:
            return
        try:
            opened = decrypt(file, self.ring.known)
        except Malformed as error:
            raise Break("BundleInvalid", str(error)) from error
        self.data_keys(opened)

    def placed(self, file, check, *arguments):
        try:
            return check(*arguments)
        except Break as found:
            raise found.placed(file=file)

    def log_public(self, files):
        there = None
        if "log.pub" in files:
            try:
                there = public_key(files["log.pub"])
            except ValueError:
                # What cannot be read is no key; the reader's own serves.
                there = None
        self.key = self.key or there
        require(self.key and there in (None, self.key), "KeyMismatch", "it is another key")

    def read_manifest(self, files):
        try:
            self.manifest = json.loads(files.get("bundle.json", b""))
            good = self.manifest["format"] == "chaperone bundle v1"
            known = {"format", "key", "sessions", "entries"}
            good = good and set(self.manifest) <= known
            good = good and self.manifest["key"] == fingerprint(self.key)
            good = good and all(isinstance(name, str) for name in self.manifest["sessions"])
            for entry in self.manifest.get("entries", []):
                good = good and {field: type(value) for field, value in entry.items()} == FIELDS
                good = good and entry["kind"] in KINDS
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Break("BundleInvalid", str(error)) from error
        require(good, "BundleInvalid", "of another format")

    def store(self, folder, key, prefix, **options):
        store = Store(folder, key, ring=self.ring, **options)
        self.stores.append(store)
        try:
            store.verify()
        except Break as found:
            found.file = f"{prefix}/{found.file}"
            raise

    def of_folder(self, files, scratch):
        (scratch / "segments").mkdir()
        for name, data in files.items():
            if name.startswith("store/"):
                (scratch / name.removeprefix("store/")).write_bytes(data)
        self.store(scratch, self.key, "store")

    def of_log(self, files, scratch):
        self.note = files["checkpoint"]
        try:
            self.size, self.root = open_note(self.note, self.key)
        except Malformed as error:
            raise Break("CheckpointInvalid", str(error), file="checkpoint") from error
        if self.held is not None:
            self.grew(files)
        stores, unseals = {}, []
        for entry in self.manifest.get("entries", []):
            data = self.entry(files, entry)
            if entry["kind"] == "Unseal":
                unseals.append((entry, data))
                continue
            if entry["kind"] == "Tombstone":
                self.placed("bundle.json", self.tombstone, entry, data)
                continue
            stores.setdefault((entry["uid"], bytes.fromhex(entry["store"])), []).append(
                (entry, data)
            )
        for entry, data in unseals:
            self.placed("bundle.json", self.unsealed, entry, data)
        for (_uid, key), entries in sorted(stores.items()):
            self.pod(key, entries, scratch)

    def tombstone(self, entry, data):
        """What was removed, as the newest one says: where stores begin."""
        try:
            found = read_tombstone(data, self.key)
        except Malformed as error:
            raise Break("TombstoneInvalid", str(error)) from error
        place = (entry["store"], entry["number"], entry["parts"])
        require(place == (self.key.hex(), found.number, 1), "TombstoneInvalid",
                "another one than its entry says")
        require(found.size <= entry["leaf"], "TombstoneInvalid", "it removes itself")
        if self.removed is None or self.removed.number < found.number:
            self.removed = found

    def unsealed(self, entry, data):
        try:
            found = read_unsealing(data, self.key)
        except Malformed as error:
            raise Break("UnsealInvalid", str(error)) from error
        place = (entry["uid"], entry["store"], entry["number"], entry["part"], entry["parts"])
        own = place == (found.uid, self.key.hex(), 0, 0, 1)
        require(own, "UnsealInvalid", "another one than its entry says")
        self.unsealings.append(found)

    def grew(self, files):
        try:
            old, old_root = open_note(self.held, self.key)
        except Malformed as error:
            raise Break("CheckpointInvalid", str(error), file="checkpoint") from error
        name = f"growth/{old:012}"
        try:
            number, path, note = read_proof(files.get(name, b""), "old")
            roots = roots_by_growth(old, self.size, path, old_root)
            good = number == old and note == self.note and roots == (old_root, self.root)
        except Malformed:
            good = False
        self.placed(name, require, good, "ProofInvalid", "the log did not grow out of that")

    def entry(self, files, entry):
        name = f"entries/{entry['leaf']:012}"
        whole = all(re.fullmatch("[0-9a-f]{64}", entry[field]) for field in ("store", "digest"))
        self.placed("bundle.json", require, whole, "BundleInvalid", "its digits")
        self.placed(name, require, name in files, "SegmentMissing", "it is not there")
        data = files[name]
        good = sha256(data).hex() == entry["digest"]
        self.placed(name, require, good, "SegmentChanged", "its digest is another")
        name += ".tlog-proof"
        try:
            text = files.get(name, b"")
            lead = PROOF.encode()
            number, path, note = read_proof(text.removeprefix(lead), "index")
            good = text.startswith(lead) and number == entry["leaf"] and note == self.note
            good = good and number < self.size
            good = good and root_by_path(leaf_hash(entry), number, self.size, path) == self.root
        except Malformed:
            good = False
        self.placed(name, require, good, "ProofInvalid", "it is not proven")
        return data

    def pod(self, key, entries, scratch):
        """One pod's store: its certificate, its segments put together, and all that is in them."""
        first = entries[0][0]
        prefix = f"Pod/{first['namespace']}/{first['pod']}"
        certified, parts = False, {}
        for entry, data in entries:
            if entry["kind"] == "Certificate":
                certified = certified or certificate(data, self.key) == (key, first["uid"])
            else:
                known = parts.setdefault(entry["number"], {})
                versions = known.setdefault(entry["part"], (entry["parts"], data))
                file = f"{prefix}/segments/{entry['number']:020}.seg"
                same = versions == (entry["parts"], data)
                self.placed(file, require, same, "SegmentChanged", "two versions of a part")
        base = self.removed and self.removed.bases.get((first["uid"], key))
        if base:
            certified = certified or certificate(base.certificate, self.key) == (key, first["uid"])
            require(base.missing == 0, "SegmentMissing", "missing before it was removed")
            parts = {number: known for number, known in parts.items() if number > base.number}
        folder = scratch / f"{first['uid']}-{key.hex()}"
        (folder / "segments").mkdir(parents=True)
        for number, known in sorted(parts.items()):
            name = f"segments/{number:020}.seg"
            counts = {count for count, _ in known.values()}
            whole = len(counts) == 1 and set(known) == set(range(counts.copy().pop()))
            self.placed(f"{prefix}/{name}", require, whole, "SegmentChanged", "parts missing")
            data = b"".join(known[part][1] for part in sorted(known))
            (folder / name).write_bytes(data)
        self.placed(prefix, require, certified, "CertificateInvalid", "nobody certified it")
        if parts:
            # `latest` would be made of the segments themselves.
            self.store(folder, key, prefix, latest=False, base=base)


def certificate(data, key):
    """The store key and pod UID that a certificate of the log key ties together, if it is one."""
    reader = Reader(data)
    try:
        expect_version(reader)
        store = reader.take(32)
        _namespace, _name, uid, _account = (reader.text() for _ in range(4))
        reader.u64()
        message = data[: reader.at]
        signature = reader.take(64)
        reader.end()
    except Malformed:
        return None
    return (store, uid) if signed_by(key, "chaperone store v1", message, signature) else None
