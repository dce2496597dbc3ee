"""Unsealings: who was given the keys of which sealed sessions, as the log says."""

from dataclasses import dataclass

from entries import signed_by
from seal import from_bech32
from wire import Malformed, Reader, expect_version


@dataclass
class Unsealing:
    wall_ns: int
    request: str
    uid: str
    user: str
    groups: list
    recipient: str
    reason: str
    # Attach, number of its seal, session: of each key.
    keys: list

    def sessions(self):
        return sorted({session for _attach, _seal, session in self.keys})


def read_unsealing(data, log_key):
    """Reads what the log key has signed."""
    reader = Reader(data)
    expect_version(reader)
    wall_ns = reader.u64()
    request, uid, user = (reader.text() for _ in range(3))
    groups = reader.many(reader.text, 64)
    recipient, reason = reader.text(), reader.text()
    keys = reader.many(lambda: (reader.take(8), reader.u32(), reader.take(8)), 4096)
    message = data[: reader.at]
    signature = reader.take(64)
    reader.end()
    from_bech32(recipient, "age")
    if not keys or keys != sorted(set(keys)):
        raise Malformed("keys that do not ascend, or none")
    if not signed_by(log_key, "chaperone unseal v1", message, signature):
        raise Malformed("not signed by the log key")
    return Unsealing(wall_ns, request, uid, user, groups, recipient, reason, keys)
