"""Frames that no segment has yet: chained, not signed."""

from wire import Malformed, Reader
from records import chained, split

MAGIC = b"CHSPOOL1"
BATCH = b"CHB1"
HEADER = 8 + 8 + 8 + 8


def batches(path):
    """The generation and attach of one spool file and the batches that count, in order.

    Each batch is (ordinal, first sequence, chain before, frames)."""
    with path.open("rb") as file:
        header = Reader(file.read(HEADER))
        if len(header.data) < HEADER or header.take(8) != MAGIC:
            return None
        generation, attach = header.u64(), header.take(8)
        if header.take(8) != bytes(8):
            return None
        found = []
        while True:
            lead = file.read(8)
            if len(lead) < 8 or lead[:4] != BATCH:
                break
            length = int.from_bytes(lead[4:], "big")
            rest = file.read(max(length - 8, 0))
            try:
                batch = _batch(rest, generation)
            except Malformed:
                break
            if batch is None:
                break
            found.append(batch)
        return generation, attach, found


def _batch(rest, generation):
    reader = Reader(rest)
    of, ordinal, first, count = reader.u64(), reader.u64(), reader.u64(), reader.u32()
    before, after = reader.take(32), reader.take(32)
    frames = list(split(rest[reader.at :]))
    if of != generation or len(frames) != count:
        return None
    chain = None if first == 0 else before
    for frame in frames:
        chain = chained(chain, frame)
    return (ordinal, first, before, frames) if chain == after else None
