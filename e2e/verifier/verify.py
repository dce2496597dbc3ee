"""Verifies evidence by FORMAT.md alone: one JSON document for each folder or bundle.

    python verify.py [--key log.pub] [--note checkpoint] STATE/evidence | BUNDLE.tar …
    python verify.py --vectors frames.txt

Tests only: a second reader of the format, which shares no code with the first."""

import argparse
import json
import sys
from pathlib import Path

from bundle import Bundle
from records import chained, read_body, read_header
from store import Store, fingerprint, public_key
from wire import Break

def verify(path, key, note):
    if path.is_dir():
        checked = Store(path, key)
        stores = [checked]
    else:
        checked = Bundle(path, key, note)
        stores = checked.stores
    found = None
    try:
        checked.verify()
    except Break as broken:
        found = broken.view()
    return {
        "ok": found is None,
        "level": "full",
        "key": fingerprint(checked.key) if checked.key else "",
        "attaches": sum(len(store.lives) for store in stores),
        "sessions": sum(len(store.session_ids) for store in stores),
        "records": sum(store.records for store in stores),
        "unproven": sum(store.unproven for store in stores),
        "bytes": sum(store.bytes for store in stores),
        "break": found,
    }


def vectors(path):
    """Reads the frames of `vectors/frames.txt`; the kinds whose chain and body are as said."""
    lines = [line.split() for line in path.read_text().splitlines() if not line.startswith("#")]
    chain, good = None, []
    for sequence, (kind, frame, after) in enumerate(lines):
        raw = bytes.fromhex(frame)
        chain = chained(chain, raw)
        header = read_header(raw)
        said, _body = read_body(header.kind, header.body)
        if (said, header.sequence, chain.hex()) == (kind, sequence, after):
            good.append(kind)
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--key", type=Path)
    parser.add_argument("--vectors", type=Path)
    parser.add_argument("--note", type=Path)
    parser.add_argument("paths", type=Path, nargs="*")
    arguments = parser.parse_args()
    if arguments.vectors:
        print(json.dumps(vectors(arguments.vectors)))
        return
    key = public_key(arguments.key.read_bytes()) if arguments.key else None
    note = arguments.note.read_bytes() if arguments.note else None
    good = True
    for path in arguments.paths:
        verdict = verify(path, key, note)
        good = good and verdict["ok"]
        print(json.dumps(verdict), flush=True)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
