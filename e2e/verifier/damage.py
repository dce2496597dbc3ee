"""Damages evidence in as many ways as there are to hide something: one copy a damage.

    python damage.py STORE|BUNDLE.tar OUT COUNT SEED [NAME]
    python damage.py --cluster STORE OUT

NAME is the one damage to do. With --cluster nothing is damaged: OUT/bundle.tar is of a cluster's log with that store in it, and
beside it lie log.pub and the note of an earlier checkpoint. Else writes OUT/<n>/evidence or
OUT/<n>.tar and prints one line each: the name of the damage and what it did. Files
that are as they were are hard links. What is in no segment yet is signed by nobody, so damage to
the spool need not be seen: those names begin with `spool`."""

import json
import os
import random
import sys
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bundle import pack, unpack
from forge import Log, Resealer, cluster_bundle, u32, u64
from records import KINDS as RECORDS
from wire import Malformed

CODES = {name: code for code, name in RECORDS.items()}
# Of a frame: where its kind, its sequence and its body are.
KIND, SEQUENCE, BODY = 5, 14, 38
DAMAGES = {}


def damage(function):
    DAMAGES[function.__name__] = function
    return function


class Copy:
    """A copy of a store whose files are linked until they are written."""

    def __init__(self, source, target):
        self.folder = target
        for path in sorted(source.rglob("*")):
            to = target / path.relative_to(source)
            to.parent.mkdir(parents=True, exist_ok=True)
            if path.is_file():
                os.link(path, to)

    def write(self, path, data):
        """A new file in the place of the link; the end of a spool file is a hole, as it was."""
        path.unlink(missing_ok=True)
        with path.open("wb") as file:
            file.write(data.rstrip(b"\0"))
            file.truncate(len(data))

    def evidence(self):
        """Every file with evidence in it."""
        found = sorted(self.folder.glob("segments/*.seg")) + [self.folder / "latest"]
        return found + [self.folder / "keys" / "log.pub"]

    def spool(self):
        return sorted(self.folder.glob("spool/*"))

    def reseal(self, log, **options):
        self.segments(log.write(Resealer(log, **options)))

    def segments(self, files):
        for path in self.folder.glob("segments/*.seg"):
            path.unlink()
        for number, data in enumerate(files, 1):
            self.write(self.folder / "segments" / f"{number:020}.seg", data)


# Of files.


@damage
def flip_a_bit(copy, _log, rng):
    path = rng.choice(copy.evidence())
    data = bytearray(path.read_bytes())
    at = rng.randrange(len(data))
    data[at] ^= 1 << rng.randrange(8)
    copy.write(path, bytes(data))
    return f"{path.name} at {at}"


@damage
def cut_a_file(copy, _log, rng):
    path = rng.choice(copy.evidence())
    data = path.read_bytes()
    at = rng.randrange(len(data))
    copy.write(path, data[:at])
    return f"{path.name} at {at}"


@damage
def zero_a_part(copy, _log, rng):
    path = rng.choice(copy.evidence())
    data = path.read_bytes()
    at = rng.randrange(len(data) - 40)
    copy.write(path, data[:at] + bytes(40) + data[at + 40 :])
    return f"{path.name} at {at}"


@damage
def append_to_a_file(copy, _log, rng):
    path = rng.choice(copy.evidence()[:-1])
    copy.write(path, path.read_bytes() + rng.randbytes(rng.randrange(1, 50)))
    return path.name


@damage
def remove_a_file(copy, _log, rng):
    path = rng.choice(copy.evidence())
    path.unlink()
    return path.name


@damage
def put_a_segment_in_anothers_place(copy, _log, rng):
    one, other = rng.sample(copy.evidence()[:-2], 2)
    copy.write(one, other.read_bytes())
    return f"{other.name} as {one.name}"


@damage
def exchange_two_segments(copy, _log, rng):
    one, other = rng.sample(copy.evidence()[:-2], 2)
    first, second = one.read_bytes(), other.read_bytes()
    copy.write(one, second)
    copy.write(other, first)
    return f"{one.name} and {other.name}"


@damage
def close_the_gap_of_a_removed_segment(copy, log, rng):
    at = rng.randrange(len(log.segments))
    del log.segments[at]
    copy.segments(log.write())
    return f"segment {at + 1}"


# Of the spool.


def change_a_spool_file(copy, rng, change):
    """Changes one where something is written: the rest is zeros."""
    path = rng.choice([path for path in copy.spool() if path.read_bytes().strip(b"\0")])
    data = path.read_bytes()
    at = rng.randrange(len(data.rstrip(b"\0")))
    copy.write(path, change(data, at))
    return f"{path.name} at {at}"


@damage
def spool_flip(copy, _log, rng):
    bit = 1 << rng.randrange(8)
    return change_a_spool_file(
        copy, rng, lambda data, at: data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :]
    )


@damage
def spool_cut(copy, _log, rng):
    return change_a_spool_file(copy, rng, lambda data, at: data[:at] + bytes(len(data) - at))


@damage
def spool_without_a_batch(copy, _log, rng):
    """The batches from one to another are gone, and the rest has moved up."""

    def change(data, at):
        start = data.rfind(b"CHB1", 0, at + 1)
        end = data.find(b"CHB1", at + 1)
        if start < 0 or end < 0:
            return data[:at]
        return data[:start] + data[end:] + bytes(end - start)

    return change_a_spool_file(copy, rng, change)


@damage
def spool_of_another_attach(copy, log, rng):
    attach = log.item(rng.choice(log.items("attach"))).parts.id
    return change_a_spool_file(
        copy, rng, lambda data, _at: data[:16] + rng.choice([attach, rng.randbytes(8)]) + data[24:]
    )


# Of entries, with every digest made anew: no signature is needed for those.


@damage
def drop_an_entry(copy, log, rng):
    segment, place = rng.choice(log.items("attach", "run", "head", "seal"))
    kind = log.segments[segment].pop(place).kind
    copy.segments(log.write())
    return f"{kind} {place} of segment {segment + 1}"


@damage
def drop_a_session(copy, log, rng):
    session = without_a_session(log, rng)
    copy.segments(log.write())
    return session


def without_a_session(log, rng):
    """Takes every run of a session out; the session's id."""
    session = log.item(rng.choice(log.items("run"))).parts.session
    for segment in log.segments:
        segment[:] = [i for i in segment if i.kind != "run" or i.parts.session != session]
    return session.hex()


@damage
def repeat_an_entry(copy, log, rng):
    segment, place = rng.choice(log.items("attach", "run", "head", "seal"))
    item = log.segments[segment][place]
    log.segments[segment].insert(place, item)
    copy.segments(log.write())
    return f"{item.kind} {place} of segment {segment + 1}"


@damage
def exchange_two_entries(copy, log, rng):
    one, other = rng.sample(log.items("attach", "run", "head", "seal"), 2)
    first, second = log.item(one), log.item(other)
    log.segments[one[0]][one[1]], log.segments[other[0]][other[1]] = second, first
    copy.segments(log.write())
    return f"{first.kind} of {one} and {second.kind} of {other}"


@damage
def exchange_two_certificates(copy, log, rng):
    one, other = rng.sample(log.items("attach"), 2)
    first, second = log.item(one), log.item(other)
    log.segments[one[0]][one[1]], log.segments[other[0]][other[1]] = second, first
    copy.segments(log.write())
    return f"of segments {one[0] + 1} and {other[0] + 1}"


@damage
def flip_a_bit_of_an_entry(copy, log, rng):
    item = log.item(rng.choice(log.items("attach", "run", "head", "seal")))
    body = bytearray(item.body)
    at = rng.randrange(len(body))
    body[at] ^= 1 << rng.randrange(8)
    item.body = bytes(body)
    copy.segments(log.write())
    return f"{item.kind} at {at}"


@damage
def cut_an_entry(copy, log, rng):
    item = log.item(rng.choice(log.items("attach", "run", "head", "seal")))
    at = rng.randrange(len(item.body))
    item.body = item.body[:at]
    copy.segments(log.write())
    return f"{item.kind} at {at}"


@damage
def exchange_the_frames_of_two_runs(copy, log, rng):
    one, other = (log.item(where) for where in rng.sample(log.items("run"), 2))
    first, second = one.body, other.body
    cut_first = len(first) - len(one.parts.payload)
    cut_second = len(second) - len(other.parts.payload)
    one.body = first[:cut_first] + second[cut_second:]
    other.body = second[:cut_second] + first[cut_first:]
    copy.segments(log.write())
    return f"{one.parts.session.hex()} and {other.parts.session.hex()}"


# With keys that nobody certified.


def change_a_record(log, rng):
    """Changes a byte of a record's body, and says which."""
    item = log.item(rng.choice(log.items("run")))
    at = rng.randrange(len(item.frames))
    frame = bytearray(item.frames[at])
    byte = rng.randrange(BODY, len(frame))
    frame[byte] ^= 1 << rng.randrange(8)
    item.frames[at] = bytes(frame)
    return f"{RECORDS[frame[KIND]]} #{item.parts.first + at} of {item.parts.session.hex()}"


@damage
def chain_anew_with_an_uncertified_key(copy, log, rng):
    said = change_a_record(log, rng)
    copy.reseal(log, certify=False)
    return said


@damage
def certify_with_another_log_key(copy, log, rng):
    said = change_a_record(log, rng)
    copy.reseal(log, log_key=Ed25519PrivateKey.generate())
    return said


@damage
def forge_a_head(copy, log, rng):
    """One head of a key of nobody's, all else as it was."""
    item = log.item(rng.choice(log.items("head")))
    forger = Resealer(log)
    forger.key = Ed25519PrivateKey.generate()
    item.body = forger.head(item, item.parts.segment, b"", item.parts.segment_before)
    copy.segments(log.write())
    return f"number {item.parts.number}"


# By one who has the log's key: only what the records and heads say is left to find him out.


def place_of(log, rng, *kinds):
    """A run and the place in it of a record of one of these kinds."""
    found = [
        (log.item(where), at)
        for where in log.items("run")
        for at, frame in enumerate(log.item(where).frames)
        if not kinds or RECORDS[frame[KIND]] in kinds
    ]
    item, at = rng.choice(found)
    kind = RECORDS[item.frames[at][KIND]]
    return item, at, f"{kind} #{item.parts.first + at} of {item.parts.session.hex()}"


@damage
def reseal_a_changed_record(copy, log, rng):
    """If it is a text, which may say anything, then the heads say otherwise."""
    said = change_a_record(log, rng)
    copy.reseal(log, heads=False)
    return said


@damage
def reseal_a_dropped_record(copy, log, rng):
    item, at, said = place_of(log, rng)
    if len(item.frames) == 1:
        return reseal_a_dropped_record(copy, log, rng)
    del item.frames[at]
    copy.reseal(log, heads=rng.random() < 0.5)
    return said


@damage
def reseal_a_repeated_record(copy, log, rng):
    item, at, said = place_of(log, rng)
    item.frames.insert(at, item.frames[at])
    copy.reseal(log)
    return said


@damage
def reseal_records_in_another_order(copy, log, rng):
    item, at, _ = place_of(log, rng)
    if at + 1 == len(item.frames):
        return reseal_records_in_another_order(copy, log, rng)
    item.frames[at], item.frames[at + 1] = item.frames[at + 1], item.frames[at]
    copy.reseal(log)
    return f"#{item.parts.first + at} of {item.parts.session.hex()}"


@damage
def reseal_a_record_of_another_session(copy, log, rng):
    one, at, said = place_of(log, rng)
    other, to, _ = place_of(log, rng)
    other.frames[to] = one.frames[at]
    copy.reseal(log, heads=False)
    return said


@damage
def reseal_another_kind(copy, log, rng):
    item, at, said = place_of(log, rng)
    frame = bytearray(item.frames[at])
    frame[KIND] = rng.choice([kind for kind in range(16) if kind != frame[KIND]])
    item.frames[at] = bytes(frame)
    copy.reseal(log, heads=False)
    return f"{said} as {frame[KIND]}"


@damage
def reseal_a_record_with_more_in_it(copy, log, rng):
    item, at, said = place_of(log, rng)
    frame = item.frames[at]
    item.frames[at] = u32(len(frame) - 4 + 3) + frame[4:] + b"abc"
    copy.reseal(log, heads=False)
    return said


@damage
def reseal_a_command_of_no_intent(copy, log, rng):
    item, at, said = place_of(log, rng, "Client")
    frame = item.frames[at]
    named = rng.randrange(item.parts.first + at + 1)
    item.frames[at] = frame[:BODY] + b"\1" + u64(named) + frame[BODY + 9 :]
    if item.frames[at] == frame:
        return reseal_a_command_of_no_intent(copy, log, rng)
    copy.reseal(log, heads=False)
    return f"{said}, naming {named}"


@damage
def reseal_an_outcome_of_no_intent(copy, log, rng):
    item, at, said = place_of(log, rng, "Outcome")
    frame = item.frames[at]
    item.frames[at] = frame[:BODY] + u64(item.parts.first + at + 7) + frame[BODY + 8 :]
    copy.reseal(log, heads=False)
    return said


@damage
def reseal_an_unapproved_command(copy, log, rng):
    """A grant that becomes an expiry."""
    found = [
        (log.item(where), at)
        for where in log.items("run")
        for at, frame in enumerate(log.item(where).frames)
        if frame[KIND] == CODES["Approval"] and frame[event_of(frame)] == 4
    ]
    item, at = rng.choice(found)
    frame = bytearray(item.frames[at])
    frame[event_of(frame)] = rng.choice([1, 2, 3, 5, 6, 7])
    item.frames[at] = bytes(frame)
    copy.reseal(log, heads=False)
    return f"#{item.parts.first + at} of {item.parts.session.hex()}"


def event_of(frame):
    return BODY + 4 + int.from_bytes(frame[BODY : BODY + 4], "big")


@damage
def reseal_another_count_of_records(copy, log, rng):
    item, at, said = place_of(log, rng, "SessionEnd")
    frame = item.frames[at]
    # The totals are the last six numbers.
    item.frames[at] = frame[:-48] + u64(rng.randrange(100)) + frame[-40:]
    if item.frames[at] == frame:
        return reseal_another_count_of_records(copy, log, rng)
    copy.reseal(log, heads=False)
    return said


@damage
def reseal_without_a_session(copy, log, rng):
    session = without_a_session(log, rng)
    copy.reseal(log)
    return session


@damage
def reseal_without_a_run(copy, log, rng):
    segment, place = rng.choice(log.items("run"))
    session = log.segments[segment].pop(place).parts.session
    copy.reseal(log, heads=rng.random() < 0.5)
    return session.hex()


@damage
def reseal_a_head_that_says_otherwise(copy, log, rng):
    found = [log.item(where) for where in log.items("head")]
    item = rng.choice([head for head in found if head.parts.open or head.parts.closed])
    states = rng.choice([some for some in (item.parts.open, item.parts.closed) if some])
    at = rng.randrange(len(states))
    ordinal, identity, last, chain = states[at]
    what = rng.randrange(6)
    if what == 0:
        states[at] = (ordinal, identity, max(last - 1, 0) if last else 1, chain)
    elif what == 1:
        states[at] = (ordinal, identity, last + 1 + rng.randrange(5), chain)
    elif what == 2:
        states[at] = (ordinal, identity, last, rng.randbytes(32))
    elif what == 3:
        states[at] = (ordinal, rng.randbytes(8), last, chain)
    elif what == 4:
        del states[at]
    else:
        item.parts.highest += rng.choice([-1, 1])
    copy.reseal(log, heads=False)
    return f"number {item.parts.number}, {what}"


@damage
def reseal_without_a_life(copy, log, rng):
    """All segments from one attach up to the next."""
    attaches = [segment for segment, _ in log.items("attach")]
    at = rng.randrange(len(attaches) - 1)
    del log.segments[attaches[at] : attaches[at + 1]]
    copy.reseal(log)
    return f"attach {at + 1}"


@damage
def reseal_the_sealed_frames_of_another_run(copy, log, rng):
    one, other = (log.item(where) for where in rng.sample(log.items("run"), 2))
    one.payload = other.parts.payload
    copy.reseal(log)
    return f"{one.parts.session.hex()} with those of {other.parts.session.hex()}"


@damage
def reseal_a_seal_that_says_otherwise(copy, log, rng):
    item = log.item(rng.choice(log.items("seal")))
    what = rng.randrange(4)
    if what == 0:
        item.parts.commitment = rng.randbytes(32)
    elif what == 1:
        item.parts.number += 1
    elif what == 2:
        item.parts.attach = rng.randbytes(8)
    else:
        wrapped = bytearray(item.parts.wrapped)
        wrapped[-1 - rng.randrange(40)] ^= 1
        item.parts.wrapped = bytes(wrapped)
    copy.reseal(log)
    return f"number {item.parts.number}, {what}"


@damage
def reseal_without_a_seal(copy, log, rng):
    segment, place = rng.choice(log.items("seal"))
    del log.segments[segment][place]
    copy.reseal(log)
    return f"of segment {segment + 1}"


# Of bundles.


def flip_a_bit_of_a_bundle(data, files, rng):
    while True:
        at = rng.randrange(len(data))
        damaged = data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
        try:
            changed = unpack(damaged)
        except Malformed:
            return damaged, at
        if any(proves(name) and changed.get(name) != data for name, data in files.items()):
            return damaged, at


def cut_a_bundle(data, _files, rng):
    at = rng.randrange(len(data))
    return data[:at], at


def change_a_file_of_a_bundle(_data, files, rng):
    name = rng.choice([name for name in files if proves(name)])
    at = rng.randrange(len(files[name]))
    changed = bytearray(files[name])
    changed[at] ^= 1 << rng.randrange(8)
    return pack({**files, name: bytes(changed)}), f"{name} at {at}"


def drop_a_file_of_a_bundle(_data, files, rng):
    name = rng.choice([name for name in files if proves(name)])
    return pack({other: data for other, data in files.items() if other != name}), name


def exchange_two_files_of_a_bundle(_data, files, rng):
    one, other = rng.sample([name for name in files if proves(name)], 2)
    return pack({**files, one: files[other], other: files[one]}), f"{one} and {other}"


def promise_another_session(_data, files, rng):
    manifest = json.loads(files["bundle.json"])
    manifest["sessions"].append(rng.randbytes(8).hex())
    return pack({**files, "bundle.json": json.dumps(manifest).encode()}), "one more"


def proves(name):
    """Not what people read, nor the key that the auditor has himself."""
    return name not in ("README.txt", "log.pub", "bundle.json") and "growth" not in name


BUNDLE_DAMAGES = (
    flip_a_bit_of_a_bundle, cut_a_bundle, change_a_file_of_a_bundle, drop_a_file_of_a_bundle,
    exchange_two_files_of_a_bundle, promise_another_session,
)


def damage_bundles(source, out, count, seed):
    data = source.read_bytes()
    for number in range(count):
        rng = random.Random(f"{seed}/{number}")
        function = BUNDLE_DAMAGES[number % len(BUNDLE_DAMAGES)]
        damaged, said = function(data, unpack(data), rng)
        (out / f"{number}.tar").write_bytes(damaged)
        print(f"{function.__name__}: {said}")


def main():
    if sys.argv[1] == "--cluster":
        files, key, note = cluster_bundle(Path(sys.argv[2]), random.Random(1))
        out = Path(sys.argv[3])
        out.mkdir()
        (out / "bundle.tar").write_bytes(pack(files))
        (out / "log.pub").write_bytes(key)
        (out / "note").write_text(note)
        return
    source, out = Path(sys.argv[1]), Path(sys.argv[2])
    count, seed = int(sys.argv[3]), int(sys.argv[4])
    if source.is_file():
        out.mkdir()
        damage_bundles(source, out, count, seed)
        return
    spool = any((source / "spool").glob("*"))
    names = [name for name in DAMAGES if spool or not name.startswith("spool")]
    names = sys.argv[5:] or names
    for number in range(count):
        rng = random.Random(f"{seed}/{number}")
        copy = Copy(source, out / str(number) / "evidence")
        name = names[number % len(names)]
        said = DAMAGES[name](copy, Log(source), rng)
        print(f"{name}: {said}")


if __name__ == "__main__":
    main()
