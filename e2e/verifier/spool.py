"""Frames that no segment has yet: chained, not signed."""

from wire import Malformed, Reader
from records import chained, read_header, split

MAGIC = b"CHSPOOL1"
BATCH = b"CHB1"
HEADER = 32


def files(folder):
    """The spool files in use, in order: (path, attach, batches); none if one cannot be read."""
    found = []
    for path in sorted((folder / "spool").glob("*")):
        with path.open("rb") as file:
            header = file.read(HEADER)
            if not header.strip(b"\0"):
                continue
            reader = Reader(header.ljust(HEADER, b"\0"))
            magic, generation, attach = reader.take(8), reader.u64(), reader.take(8)
            if magic != MAGIC or reader.take(8) != bytes(8):
                return []
            found.append((generation, path, attach, list(batches(file, generation))))
    return [file[1:] for file in sorted(found, key=lambda file: file[0])]


def batches(file, generation):
    """The batches that count: (ordinal, first sequence, chain before, frames)."""
    while True:
        lead = file.read(8)
        if len(lead) < 8 or lead[:4] != BATCH:
            return
        try:
            rest = Reader(file.read(max(int.from_bytes(lead[4:], "big") - 8, 0)))
            of, ordinal, first, count = rest.u64(), rest.u64(), rest.u64(), rest.u32()
            before, after = rest.take(32), rest.take(32)
            frames = list(split(rest.data[rest.at :]))
        except Malformed:
            return
        if of != generation or len(frames) != count or not frames:
            return
        if first == 0 and before != bytes(32):
            return
        chain = None if first == 0 else before
        for sequence, frame in enumerate(frames, first):
            header = read_header(frame)
            if (header.ordinal, header.sequence) != (ordinal, sequence):
                return
            chain = chained(chain, frame)
        if chain != after:
            return
        yield ordinal, first, before, frames
