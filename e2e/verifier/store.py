"""One store, from its keys and its first segment to what is only in its spool."""

import base64
import re

from cryptography.hazmat.primitives.serialization import (
    Encoding, PublicFormat, load_pem_private_key, load_pem_public_key,
)

try:
    from compression import zstd
except ImportError:
    from backports import zstd

from wire import Break, Malformed, Reader, sha256
from entries import read_attach, read_head, read_run, read_segment, require, signed_by
from records import KINDS, chained, first_frame, read_header, split
from seal import Ring, identities, open_frames, read_seal, session_key
from session import Session
import spool

MAX_RUN = 8 * 1024 * 1024
# SubjectPublicKeyInfo of an Ed25519 key but for the key (RFC 8410, section 4).
SPKI = bytes.fromhex("302a300506032b6570032100")


def raw_key(key):
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw)


def public_key(pem):
    """The raw key of a SubjectPublicKeyInfo PEM."""
    return raw_key(load_pem_public_key(pem))


def fingerprint(key):
    return "SHA256:" + base64.b64encode(sha256(SPKI, key)).decode().rstrip("=")


class Life:
    """One attach: its sessions, its heads."""

    def __init__(self, attach):
        self.attach = attach
        # By ordinal; those that ended leave at the next head.
        self.sessions = {}
        self.highest = 0
        # None after a session that could not be opened.
        self.last_start = bytes(32)
        # The secrets of its seals, in order; None where there is no key.
        self.secrets = []
        self.heads = []
        self.detached = False
        self.active = False


class Store:
    """Reads a store in the order of its log; raises the first Break."""

    def __init__(self, folder, key=None, latest=True, ring=None, base=None):
        self.folder = folder
        self.key = key
        self.given = ring or Ring()
        self.known = list(self.given.known)
        self.sealed = []
        self.key_given = key is not None
        # Whether a copy of the newest head is kept beside the log.
        self.has_latest = latest
        self.commitment = None
        self.lives = []
        self.digest = bytes(32)
        # Where what was removed under a tombstone ends.
        self.base = base
        self.session_ids = []
        self.records = 0
        self.unproven = 0
        self.bytes = 0

    def verify(self):
        self.keys()
        if self.base:
            self.begin_at(self.base)
        self.segments()
        if self.has_latest:
            self.placed("latest", self.latest)
        for path, attach, batches in spool.files(self.folder):
            self.placed(f"spool/{path.name}", self.spool, attach, batches)

    def asked_and_sealed(self):
        """Whether any session could not be opened."""
        return bool(self.sealed)

    def placed(self, file, check, *arguments):
        """Runs a check; what it finds is in this file."""
        try:
            check(*arguments)
        except Break as found:
            raise found.placed(file=file)

    # Keys.

    def keys(self):
        self.placed("keys/log.pub", self.log_public)
        self.placed("keys/log.key", self.log_private)
        self.placed("keys/seal.key", self.seal_key)
        self.placed("keys/digest.key", self.digest_key)

    def log_public(self):
        path = self.folder / "keys" / "log.pub"
        if self.key_given and not path.exists():
            return
        try:
            there = public_key(path.read_bytes())
        except (OSError, ValueError) as error:
            raise Break("KeyMismatch", str(error)) from error
        self.key = self.key or there
        require(self.key == there, "KeyMismatch", "the folder's key is another")

    def log_private(self):
        path = self.folder / "keys" / "log.key"
        if not path.exists():
            return
        try:
            there = raw_key(load_pem_private_key(path.read_bytes(), None).public_key())
        except ValueError as error:
            raise Break("KeyMismatch", str(error)) from error
        require(self.key == there, "KeyMismatch", "not the private half of the log key")

    def seal_key(self):
        path = self.folder / "keys" / "seal.key"
        if path.exists():
            try:
                self.known += identities(path.read_bytes().decode())
            except (ValueError, Malformed) as error:
                raise Break("KeyMismatch", str(error)) from error

    def digest_key(self):
        path = self.folder / "keys" / "digest.key"
        if path.exists():
            data = path.read_bytes()
            require(re.fullmatch(rb"[0-9a-f]{64}\n", data), "KeyMismatch", "not 64 digits")
            self.commitment = sha256(b"chaperone digest key v1\0", bytes.fromhex(data.decode()))

    # The log.

    @property
    def life(self):
        return self.lives[-1] if self.lives else None

    def begin_at(self, base):
        self.digest = base.digest
        if base.attach is None:
            return
        life = Life(base.attach)
        life.highest, life.detached, life.active = base.highest, base.detached, True
        life.last_start = None
        life.heads = [None] * (base.heads - 1) + [base.head] if base.heads else []
        for seal in base.seals:
            missing = seal.number - len(life.secrets) - 1
            life.secrets += [None] * missing + [seal.secret(self.known)]
        for ordinal, identity, last, chain in base.tails:
            life.sessions[ordinal] = Session.tail(identity, base.attach.id, ordinal, last, chain)
        self.lives.append(life)

    def segments(self):
        paths = sorted((self.folder / "segments").glob("*.seg"))
        first = self.base.number + 1 if self.base else 1
        for number, path in enumerate(paths, first):
            name = f"{number:020}.seg"
            self.placed(f"segments/{name}", require, path.name == name, "SegmentMissing",
                        "it is not there")
            self.placed(f"segments/{name}", self.segment, number, path.read_bytes())

    def segment(self, number, data):
        try:
            segment = read_segment(data)
        except Malformed as error:
            raise Break("SegmentChanged", str(error)) from error
        for at, entry in enumerate(segment.entries):
            require(entry.kind is not None, "EntryMisplaced", "of an unknown kind")
            if entry.kind == "attach":
                self.attach(entry, segment, at)
            elif entry.kind == "run":
                self.run(entry)
            elif entry.kind == "seal":
                self.seal(entry)
            else:
                self.head(entry, segment)
        require(segment.unsound is None, "SegmentChanged", segment.unsound)
        require(segment.number == number, "SegmentOutOfOrder", f"it is number {segment.number}")
        require(segment.previous == self.digest, "SegmentOutOfOrder", "it names another before it")
        self.digest = segment.digest

    def last_head(self):
        return self.life.heads[-1] if self.life and self.life.heads else bytes(32)

    def attach(self, entry, segment, at):
        try:
            attach = read_attach(entry.body)
        except Malformed as error:
            raise Break("AttachInvalid", str(error)) from error
        signed = signed_by(self.key, "chaperone attach v1", attach.message, attach.signature)
        require(signed and attach.log_key == self.key, "AttachInvalid", "not of the log key")
        before = self.life.attach.id if self.lives else bytes(8)
        lived = self.life.attach.ordinal if self.lives else 0
        require(attach.ordinal == lived + 1 and attach.previous == before,
                "AttachMissing", f"attach {attach.ordinal} comes after {lived}")
        require(attach.previous_head == self.last_head(), "TailMissing",
                "it names another head before it")
        require(at == 0 and attach.segment == segment.number
                and attach.segment_before == self.digest,
                "SegmentOutOfOrder", "the log before it is another")
        require(self.commitment in (None, attach.digest_key), "KeyMismatch",
                "digest.key is another")
        self.lives.append(Life(attach))

    def seal(self, entry):
        try:
            seal = read_seal(entry.body)
        except Malformed as error:
            raise Break("SealInvalid", str(error)) from error
        life = self.life
        require(life and seal.attach == life.attach.id and not life.detached,
                "EntryMisplaced", "of another attach")
        require(signed_by(life.attach.key, "chaperone seal v1", seal.message, seal.signature),
                "SignatureInvalid", "not signed by the attach")
        require(seal.number == len(life.secrets) + 1, "SealInvalid", "another was to be next")
        try:
            life.secrets.append(seal.secret(self.known))
        except Malformed as error:
            raise Break("SealInvalid", str(error)) from error

    def run(self, entry):
        try:
            run = read_run(entry.body)
        except Malformed as error:
            raise Break("RunChanged", str(error)) from error
        try:
            life, payload = self.believed(run)
            session = self.followed(life, run)
        except Break as found:
            raise found.placed(run.session, run.first)
        if payload is None or session.blind:
            self.unread(life, session, run, payload)
            return
        self.bytes += len(payload)
        walls = []
        while payload:
            try:
                raw, payload = first_frame(payload)
            except Malformed as error:
                at = run.first + len(walls)
                raise Break("RecordInvalid", str(error), run.session, at) from error
            walls.append(read_header(raw).wall)
            self.frame(life, session, raw)
        require(len(walls) == run.count and session.chain == run.after, "ChainBroken",
                "the chain after it is another", run.session, run.last)
        require((walls[0], walls[-1]) == (run.first_wall, run.last_wall), "RunChanged",
                "other times", run.session, run.last)
        require(run.seal is None or run.ends == session.ended, "RunChanged",
                "another end", run.session, run.last)

    def unread(self, life, session, run, payload):
        """A run of which only the header is held against the rest."""
        if run.first == 0:
            life.last_start = None
        if not session.blind:
            self.sealed.append(session.id)
        session.blind = True
        session.next = run.last + 1
        session.chain = run.after
        session.ended = run.ends if run.seal is not None else ends(list(split(payload)))

    def believed(self, run):
        """The life that a run's session began in, and its frames: all that its header claims."""
        current = self.life
        require(current and run.signer == current.attach.id and not current.detached,
                "EntryMisplaced", "of another attach")
        require(signed_by(current.attach.key, "chaperone run v1", run.message, run.signature),
                "SignatureInvalid", "not signed by the attach")
        require(sha256(run.payload) == run.payload_digest, "RunChanged", "another payload")
        life = self.lives[-2] if run.recovered and len(self.lives) > 1 else current
        require(run.began == life.attach.id and run.recovered == (run.began != run.signer),
                "EntryMisplaced", "its session began elsewhere")
        compressed = self.unsealed(run)
        if compressed is None:
            return life, None
        require(run.length <= MAX_RUN, "RunChanged", "too long")
        try:
            unpacker = zstd.ZstdDecompressor()
            payload = unpacker.decompress(compressed, max_length=run.length + 1)
        except zstd.ZstdError as error:
            raise Break("RunChanged", str(error)) from error
        require(unpacker.eof and not unpacker.unused_data and len(payload) == run.length,
                "RunChanged", "it decompresses to another length")
        return life, payload

    def unsealed(self, run):
        """The compressed frames; None where there is no key to them."""
        if run.seal is None:
            return run.payload
        secrets = self.life.secrets
        require(0 < run.seal <= len(secrets), "SealInvalid", "its seal is not there")
        secret, key = secrets[run.seal - 1], None
        if secret is not None:
            key = session_key(secret, run.signer, run.session)
        given = self.given.keys.get((run.signer, run.seal, run.session))
        if key is None and given is None:
            return None
        opened = open_frames(key or given, run.lead, run.nonce, run.payload)
        reason = "KeyMismatch" if key is None else "SealBroken"
        require(opened is not None, reason, "it does not open")
        return opened

    def followed(self, life, run):
        """The session that a run goes on, if it does."""
        life.active = True
        if run.first == 0:
            self.next_ordinal(life, run.ordinal, "RecordsRepeated")
            require(run.before == bytes(32), "ChainBroken", "something before the first record")
            return self.begin(life, run.session, run.ordinal)
        session = life.sessions.get(run.ordinal)
        if session is None:
            there = run.ordinal <= life.highest
            raise Break("RecordsRepeated" if there else "SessionMissing", "no such session")
        require(session.id == run.session, "ChainBroken", "another session's ordinal")
        session.follows(run.first, run.before)
        return session

    def next_ordinal(self, life, ordinal, lower):
        require(ordinal <= life.highest + 1, "SessionMissing", f"{life.highest + 1} was next")
        require(ordinal == life.highest + 1, lower, f"{life.highest + 1} was next")

    def begin(self, life, identity, ordinal):
        life.highest = ordinal
        life.sessions[ordinal] = Session(identity, life.attach.id, ordinal)
        self.session_ids.append(identity)
        return life.sessions[ordinal]

    def frame(self, life, session, raw):
        if session.take(raw) == "SessionStart":
            require(life.last_start in (None, session.previous_start), "SessionMissing",
                    "it names another session before it", session.id, 0)
            life.last_start = session.chain
        self.records += 1

    def head(self, entry, segment):
        try:
            head = read_head(entry.body)
        except Malformed as error:
            raise Break("HeadInvalid", str(error)) from error
        life = self.life
        require(life and head.attach == life.attach.id and not life.detached,
                "EntryMisplaced", "of another attach")
        require(signed_by(life.attach.key, "chaperone head v1", head.message, head.signature),
                "SignatureInvalid", "not signed by the attach")
        require(head.number == len(life.heads) + 1 and head.previous == self.last_head(),
                "HeadInvalid", "it does not follow the head before")
        self.claims(life, head)
        require(head.segment == segment.number and head.segment_before == entry.before,
                "SegmentOutOfOrder", "the log before it is another")
        life.heads.append(sha256(entry.body))
        life.detached = head.detach
        life.sessions = {o: s for o, s in life.sessions.items() if not s.ended}

    def claims(self, life, head):
        """The sessions of a head are exactly those that are known."""
        require(head.highest <= life.highest, "SessionMissing", f"it names {head.highest}")
        require(head.highest == life.highest, "HeadInvalid", f"it names {head.highest}")
        for states, closed in ((head.open, False), (head.closed, True)):
            for ordinal, identity, last, chain in states:
                session = life.sessions.get(ordinal)
                require(session, "SessionMissing", "not there", identity, last)
                require(session.id == identity, "HeadInvalid", "another", identity, last)
                require(session.last >= last, "TailMissing", "it ends earlier", identity, last)
                # Whether what ended with the record before the base had ended, only a head can say.
                ended = closed if session.behind == session.next else session.ended
                require((session.last, session.chain, ended) == (last, chain, closed),
                        "HeadInvalid", "it ends otherwise", identity, last)
                session.ended = ended
        named = {state[0] for state in head.open + head.closed}
        for ordinal, session in sorted(life.sessions.items()):
            require(ordinal in named, "HeadInvalid", "not named", session.id, session.last)

    # What is beside the log.

    def latest(self):
        path = self.folder / "latest"
        if not path.exists():
            fresh = not self.lives or (len(self.lives) == 1 and not self.life.active)
            require(fresh, "AttachMissing", "it is not there")
            return
        try:
            attach, head = read_latest(path.read_bytes())
        except Malformed as error:
            raise Break("SegmentChanged", str(error)) from error
        copied = [life for life in self.lives[-2:] if life.attach.body == attach]
        require(copied, "AttachMissing", "its attach is none of the last two")
        superseded = copied[0] is not self.life and (self.life.active or self.life.heads)
        require(not superseded, "HeadInvalid", "its attach is not the last")
        require(head is None or sha256(head) in copied[0].heads, "TailMissing",
                "its head is not there")

    def spool(self, attach, batches):
        """Adds what only the spool has."""
        found = [life for life in self.lives[-2:] if life.attach.id == attach]
        if not found:
            require(any(life.attach.id == attach for life in self.lives), "AttachMissing",
                    "its attach is not in the log")
            return
        for batch in batches:
            self.batch(found[0], *batch)

    def batch(self, life, ordinal, first, before, frames):
        if first == 0 and ordinal > life.highest:
            self.next_ordinal(life, ordinal, "SessionMissing")
            self.begin(life, read_header(frames[0]).body[:8], ordinal)
        session = life.sessions.get(ordinal)
        if session is None or first != session.next:
            return
        session.follows(first, before)
        if session.blind:
            session.next = first + len(frames)
            session.chain = chained_all(before if first else None, frames)
            session.ended = ends(frames)
            return
        for raw in frames:
            self.frame(life, session, raw)
            self.unproven += 1


def ends(frames):
    """Whether the last of these ends its session."""
    return KINDS.get(read_header(frames[-1]).kind) == "SessionEnd"


def chained_all(chain, frames):
    for raw in frames:
        chain = chained(chain, raw)
    return chain


def read_latest(data):
    """The bodies of the attach and of the head, if there is one, in `latest`."""
    reader = Reader(data)
    if reader.u8() != 1:
        raise Malformed("no attach in it")
    attach, head = reader.blob(), None
    if reader.at < len(data):
        if reader.u8() != 3:
            raise Malformed("no head in it")
        head = reader.blob()
        read_head(head)
    reader.end()
    read_attach(attach)
    return attach, head
