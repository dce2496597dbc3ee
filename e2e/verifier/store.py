"""One store, from its first segment to what is only in its spool."""

from cryptography.hazmat.primitives.serialization import (
    Encoding, PublicFormat, load_pem_public_key,
)
try:
    from compression import zstd
except ImportError:
    from backports import zstd

from wire import Break, Malformed, Reader, sha256
from entries import read_attach, read_head, read_run, read_segment, require, signed_by
from records import split
from session import Session
from spool import batches

MAX_RUN = 8 * 1024 * 1024


def public_key(pem):
    """The raw key of a SubjectPublicKeyInfo PEM."""
    return load_pem_public_key(pem).public_bytes(Encoding.Raw, PublicFormat.Raw)


class Life:
    """One attach: its key, its sessions, its heads."""

    def __init__(self, attach):
        self.attach = attach
        self.sessions = {}
        self.last_start = bytes(32)
        self.head = None
        self.head_number = 0
        self.detached = False
        # Ordinals that ended since the last head.
        self.closed = []


class Store:
    """Reads a store in the order of its log; raises the first Break."""

    def __init__(self, folder, key=None):
        self.folder = folder
        self.key = key
        self.lives = []
        self.records = 0
        self.unproven = 0
        self.bytes = 0
        self.digest = bytes(32)

    def verify(self):
        self.check_key()
        for number, path in enumerate(self.segments(), 1):
            name = f"segments/{number:020}.seg"
            try:
                require(path.name == f"{number:020}.seg", "SegmentMissing", f"{name} is not there")
                self.segment(number, path.read_bytes())
            except Break as found:
                raise found.placed(file=name)
        try:
            self.latest()
        except Break as found:
            raise found.placed(file="latest")
        self.spool()

    def check_key(self):
        path = self.folder / "keys" / "log.pub"
        try:
            there = public_key(path.read_bytes())
        except (OSError, ValueError) as error:
            raise Break("KeyMismatch", str(error), file="keys/log.pub") from error
        self.key = self.key or there
        require(self.key == there, "KeyMismatch", "the folder's key is another")

    def segments(self):
        return sorted((self.folder / "segments").glob("*.seg"))

    @property
    def life(self):
        return self.lives[-1] if self.lives else None

    def life_head(self):
        """The hash of the last head of the last life, zeros where it has none."""
        return sha256(self.life.head) if self.life and self.life.head else bytes(32)

    # The log.

    def segment(self, number, data):
        try:
            segment = read_segment(data)
        except Malformed as error:
            raise Break("SegmentChanged", str(error)) from error
        require(segment.number == number, "SegmentOutOfOrder", f"it is number {segment.number}")
        require(segment.previous == self.digest, "SegmentOutOfOrder", "it names another before it")
        for at, entry in enumerate(segment.entries):
            if entry.kind == "attach":
                self.attach(entry, segment, at)
            elif entry.kind == "run":
                self.run(entry)
            else:
                self.head(entry, segment)
        self.digest = segment.digest

    def attach(self, entry, segment, at):
        try:
            attach = read_attach(entry.body)
        except Malformed as error:
            raise Break("AttachInvalid", str(error)) from error
        require(attach.log_key == self.key, "AttachInvalid", "it names another log key")
        require(signed_by(self.key, "chaperone attach v1", attach.message, attach.signature),
                "SignatureInvalid", "not signed by the log key")
        require(at == 0, "EntryMisplaced", "an attach is first in its segment")
        require(attach.segment == segment.number and attach.segment_before == segment.previous,
                "AttachInvalid", "it is of another segment")
        before = self.life.attach if self.lives else None
        require(attach.ordinal == len(self.lives) + 1, "AttachMissing",
                f"attach {attach.ordinal} comes after {len(self.lives)}")
        require(attach.previous == (before.id if before else bytes(8)),
                "AttachMissing", "it names another before it")
        require(attach.previous_head == self.life_head(), "TailMissing",
                "it names another head before it")
        self.lives.append(Life(attach))

    def run(self, entry):
        try:
            run = read_run(entry.body)
        except Malformed as error:
            raise Break("RunChanged", str(error)) from error
        require(self.life is not None, "EntryMisplaced", "no attach before it")
        require(signed_by(self.life.attach.key, "chaperone run v1", run.message, run.signature),
                "SignatureInvalid", "not signed by the attach", run.session, run.first)
        require(run.signer == self.life.attach.id and not self.life.detached,
                "EntryMisplaced", "of another attach", run.session, run.first)
        require(run.recovered == (run.began != run.signer), "RunChanged",
                "recovered, or not", run.session, run.first)
        life = self.life_of(run.began)
        require(life is not None, "AttachMissing", "of an unknown attach", run.session, run.first)
        require(sha256(run.payload) == run.payload_digest, "RunChanged",
                "the payload is another", run.session, run.first)
        frames = self.frames(run)
        session = self.session_of(life, run.session, run.ordinal, run.first)
        session.follows(run.first, run.before)
        for frame in frames:
            self.frame(life, session, frame)
        require(session.chain == run.after, "ChainBroken",
                "the chain after is another", run.session, session.last)

    def frames(self, run):
        """The frames of a run's payload, as its header says."""
        try:
            require(run.length <= MAX_RUN, "RunChanged", "too long", run.session, run.first)
            decompressor = zstd.ZstdDecompressor()
            payload = decompressor.decompress(run.payload, max_length=run.length + 1)
            require(decompressor.eof and not decompressor.unused_data
                    and len(payload) == run.length,
                    "RunChanged", "it decompresses to another length", run.session, run.first)
            frames = list(split(payload))
        except (Malformed, zstd.ZstdError) as error:
            raise Break("RunChanged", str(error), run.session, run.first) from error
        require(len(frames) == run.count and frames, "RunChanged",
                f"{len(frames)} frames, not {run.count}", run.session, run.first)
        return frames

    def life_of(self, attach):
        """The life a run's session began in: this one, or in a recovered run the one before."""
        for life in self.lives[-2:]:
            if life.attach.id == attach:
                return life
        return None

    def session_of(self, life, identity, ordinal, first):
        session = life.sessions.get(ordinal)
        if session is None:
            expected = len(life.sessions) + 1
            require(ordinal == expected, "SessionMissing",
                    f"ordinal {ordinal} where {expected} should begin", identity, first)
            session = life.sessions[ordinal] = Session(identity, ordinal)
        require(session.id == identity, "RunChanged", "another session's ordinal", identity, first)
        return session

    def frame(self, life, session, raw):
        frame = session.take(raw)
        if frame.kind == "SessionStart":
            body = frame.body
            require(body["session"] == session.id and body["attach"] == life.attach.id,
                    "RecordInvalid", "it names another session", session.id, 0)
            require(body["previous"] == life.last_start, "SessionMissing",
                    "it names another session before it", session.id, 0)
            life.last_start = sha256(raw)
        if session.ended:
            life.closed.append(session.ordinal)
        self.records += 1
        self.bytes += len(raw)

    def head(self, entry, segment):
        try:
            head = read_head(entry.body)
        except Malformed as error:
            raise Break("HeadInvalid", str(error)) from error
        life = self.life
        require(life is not None, "EntryMisplaced", "no attach before it")
        require(signed_by(life.attach.key, "chaperone head v1", head.message, head.signature),
                "SignatureInvalid", "not signed by the attach")
        require(head.attach == life.attach.id and not life.detached,
                "EntryMisplaced", "of another attach")
        require(head.number == life.head_number + 1
                and head.previous == self.life_head(),
                "HeadInvalid", "it does not follow the head before")
        require(head.segment == segment.number and head.segment_before == entry.before,
                "HeadInvalid", "it is of another place")
        self.named(life, head)
        life.head, life.head_number, life.detached = entry.body, head.number, head.detach
        life.closed = []

    def named(self, life, head):
        """The sessions of a head are exactly those that are there."""
        require(head.highest <= len(life.sessions), "SessionMissing",
                f"it names {head.highest} sessions, {len(life.sessions)} are there")
        require(head.highest == len(life.sessions), "HeadInvalid", "it names fewer sessions")
        for states, ordinals in (
            (head.open, [o for o, s in sorted(life.sessions.items()) if not s.ended]),
            (head.closed, sorted(life.closed)),
        ):
            for ordinal, identity, last, chain in states:
                session = life.sessions.get(ordinal)
                require(session is not None and session.id == identity, "SessionMissing",
                        f"no session {ordinal}", identity)
                require(last <= session.last, "TailMissing",
                        f"it ends at {session.last}", identity, last)
                require(last == session.last and chain == session.chain, "HeadInvalid",
                        "it ends elsewhere", identity, last)
            require([state[0] for state in states] == ordinals, "HeadInvalid",
                    "it names other sessions")

    # What is beside the log.

    def latest(self):
        path = self.folder / "latest"
        if not path.exists():
            require(not self.lives, "TailMissing", "it is not there")
            return
        reader = Reader(path.read_bytes())
        try:
            kind, attach = reader.u8(), reader.blob()
            require(kind == 1, "HeadInvalid", "no attach in it")
            head = None
            if reader.at < len(reader.data):
                kind, head = reader.u8(), reader.blob()
                require(kind == 3, "HeadInvalid", "no head in it")
            reader.end()
            attach = read_attach(attach)
        except Malformed as error:
            raise Break("HeadInvalid", str(error)) from error
        require(self.life is not None and self.life.attach == attach, "TailMissing",
                "its attach is not the last")
        require(self.life.head == head, "TailMissing", "its head is not the last")

    def spool(self):
        """Adds the frames that only the spool has, and says how many."""
        files = []
        for path in sorted((self.folder / "spool").glob("[0-9][0-9]")):
            found = batches(path)
            if found is not None:
                files.append((*found, path))
        for _generation, attach, found, path in sorted(files, key=lambda file: file[0]):
            life = self.life_of(attach)
            if life is None:
                continue
            try:
                for ordinal, first, before, frames in found:
                    self.batch(life, ordinal, first, before, frames)
            except Break as broken:
                raise broken.placed(file=f"spool/{path.name}")

    def batch(self, life, ordinal, first, before, frames):
        session = life.sessions.get(ordinal)
        known = session.next if session is not None else 0
        new = frames[max(known - first, 0) :]
        if not new:
            return
        if session is None:
            from records import read_frame
            identity = read_frame(frames[0]).body.get("session", bytes(8))
            session = self.session_of(life, identity, ordinal, first)
        if first >= known:
            session.follows(first, before)
        for frame in new:
            self.frame(life, session, frame)
            self.unproven += 1
