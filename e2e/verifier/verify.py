"""Verifies evidence by FORMAT.md alone: one JSON document for each folder or bundle.

    python verify.py [--key log.pub] [--note checkpoint] STATE/evidence | BUNDLE.tar …
    python verify.py --vectors frames.txt
    python verify.py --identity FILE --unwrap FILE.age

Tests only: a second reader of the format, which shares no code with the first."""

import argparse
import json
import sys
from pathlib import Path

from bundle import Bundle
from entries import read_run, signed_by
from records import chained, read_body, read_header
from seal import (
    Identity, Ring, decrypt, identity_file, open_frames, read_seal, seal_frames, session_key,
)
from store import Store, fingerprint, public_key, zstd
from unsealing import read_unsealing
from wire import Break


def verify(path, key, note, known):
    if path.is_dir():
        checked = Store(path, key, ring=Ring(known))
        stores = [checked]
    else:
        checked = Bundle(path, key, note, Ring(known))
        stores = checked.stores
    found = None
    try:
        checked.verify()
    except Break as broken:
        found = broken.view()
    removed = getattr(checked, "removed", None)
    return {
        "ok": found is None,
        "level": "outer" if checked.asked_and_sealed() else "full",
        "key": fingerprint(checked.key) if checked.key else "",
        "attaches": sum(len(store.lives) for store in stores),
        "sessions": sum(len(store.session_ids) for store in stores),
        "sealed": sum(len(store.sealed) for store in stores),
        "records": sum(store.records for store in stores),
        "unproven": sum(store.unproven for store in stores),
        "bytes": sum(store.bytes for store in stores),
        "unsealings": [
            {"user": one.user, "sessions": [session.hex() for session in one.sessions()]}
            for one in getattr(checked, "unsealings", [])
        ],
        "removed": removed and {"entries": removed.entries, "checkpoint": removed.checkpoint},
        "break": found,
    }


def vectors(lines):
    """Reads the frames of `vectors/frames.txt`; the kinds whose chain and body are as said."""
    lines = [line.split() for line in lines if not line.startswith("#")]
    chain, good = None, []
    for sequence, (kind, frame, after) in enumerate(lines):
        raw = bytes.fromhex(frame)
        chain = chained(chain, raw)
        header = read_header(raw)
        said, _body = read_body(header.kind, header.body)
        if (said, header.sequence, chain.hex()) == (kind, sequence, after):
            good.append(kind)
    return good


def seal_vectors(lines):
    """Follows `vectors/seal.txt` from its identity to the frames; what is as said."""
    values = dict(line.split(" ", 1) for line in lines if not line.startswith("#"))
    raw = {name: bytes.fromhex(text) for name, text in values.items() if name != "identity"}
    seal = read_seal(raw["seal"])
    secret = seal.secret([Identity(values["identity"])])
    run = read_run(raw["run"])
    key = session_key(secret, run.signer, run.session)
    compressed = open_frames(key, run.lead, run.nonce, run.payload)
    again = seal_frames(key, run.lead, run.nonce, compressed)
    signer = raw["attach-key"]
    holds = signed_by(signer, "chaperone seal v1", seal.message, seal.signature)
    holds = holds and signed_by(signer, "chaperone run v1", run.message, run.signature)
    found = {
        "commitment": seal.commitment, "secret": secret, "key": key, "compressed": compressed,
        "frames": zstd.decompress(compressed),
    }
    good = [name for name, value in found.items() if raw[name] == value]
    return good + ["run"] * (again == run.payload) + ["signatures"] * holds


def unseal_vectors(lines):
    """Reads `vectors/unseal.txt`; what is as said."""
    values = dict(line.split(" ", 1) for line in lines if not line.startswith("#"))
    found = read_unsealing(bytes.fromhex(values["unsealing"]), bytes.fromhex(values["log-pub"]))
    said = {
        "wall": str(found.wall_ns), "request": found.request, "uid": found.uid,
        "user": found.user, "groups": " ".join(found.groups), "recipient": found.recipient,
        "reason": found.reason,
        "keys": ", ".join(f"{a.hex()} {seal} {s.hex()}" for a, seal, s in found.keys),
    }
    return [name for name, value in said.items() if values[name] == value]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--key", type=Path)
    parser.add_argument("--vectors", type=Path)
    parser.add_argument("--note", type=Path)
    parser.add_argument("--identity", type=Path)
    parser.add_argument("--unwrap", type=Path)
    parser.add_argument("paths", type=Path, nargs="*")
    arguments = parser.parse_args()
    if arguments.vectors:
        lines = arguments.vectors.read_text().splitlines()
        read = {"seal.txt": seal_vectors, "unseal.txt": unseal_vectors}
        print(json.dumps(read.get(arguments.vectors.name, vectors)(lines)))
        return
    key = public_key(arguments.key.read_bytes()) if arguments.key else None
    note = arguments.note.read_bytes() if arguments.note else None
    known = identity_file(arguments.identity.read_text()) if arguments.identity else []
    if arguments.unwrap:
        sys.stdout.write(decrypt(arguments.unwrap.read_bytes(), known).decode())
        return
    good = True
    for path in arguments.paths:
        verdict = verify(path, key, note, known)
        good = good and verdict["ok"]
        print(json.dumps(verdict), flush=True)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
