"""Verifies evidence folders by FORMAT.md alone: one JSON document a folder.

    python verify.py [--key log.pub] STATE/evidence …

Tests only: a second reader of the format, which shares no code with the first."""

import argparse
import base64
import json
import sys
from pathlib import Path

from store import Store, public_key
from wire import Break, sha256

# SubjectPublicKeyInfo of an Ed25519 key but for the key (RFC 8410, section 4).
SPKI = bytes.fromhex("302a300506032b6570032100")


def fingerprint(key):
    return "SHA256:" + base64.b64encode(sha256(SPKI, key)).decode().rstrip("=")


def verify(folder, key):
    store = Store(folder, key)
    found = None
    try:
        store.verify()
    except Break as broken:
        found = broken.view()
    return {
        "ok": found is None,
        "level": "full",
        "key": fingerprint(store.key) if store.key else None,
        "attaches": len(store.lives),
        "sessions": sum(len(life.sessions) for life in store.lives),
        "records": store.records,
        "unproven": store.unproven,
        "bytes": store.bytes,
        "break": found,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--key", type=Path)
    parser.add_argument("folders", type=Path, nargs="+")
    arguments = parser.parse_args()
    key = public_key(arguments.key.read_bytes()) if arguments.key else None
    good = True
    for folder in arguments.folders:
        verdict = verify(folder, key)
        good = good and verdict["ok"]
        print(json.dumps(verdict), flush=True)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
