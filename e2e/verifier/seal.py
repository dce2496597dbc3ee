"""Sealed frames, and the keys that open them: age identities, secrets, sessions' keys."""

import re

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from dataclasses import dataclass

import base64

from wire import Malformed, Reader, expect_version, sha256

CHARSET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
CHUNK = 64 * 1024


# Bech32 (BIP 173), without its limit on length.


def polymod(values):
    check = 1
    for value in values:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ value
        for at, word in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            check ^= word if top >> at & 1 else 0
    return check


def spread(prefix):
    return [ord(c) >> 5 for c in prefix] + [0] + [ord(c) & 31 for c in prefix]


def bech32(prefix, raw):
    """The text of 32 bytes."""
    number = int.from_bytes(raw, "big") << 4
    data = [number >> shift & 31 for shift in range(255, -5, -5)]
    check = polymod(spread(prefix) + data + [0] * 6) ^ 1
    data += [check >> shift & 31 for shift in (25, 20, 15, 10, 5, 0)]
    return prefix + "1" + "".join(CHARSET[value] for value in data)


def from_bech32(text, prefix):
    """32 bytes, of a text that is written in the one way there is."""
    try:
        data = [CHARSET.index(c) for c in text[len(prefix) + 1 : -6]]
    except ValueError as error:
        raise Malformed("not bech32") from error
    number = 0
    for value in data:
        number = number << 5 | value
    raw = (number >> 4).to_bytes(33, "big")[1:] if len(data) == 52 else bytes(32)
    if bech32(prefix, raw) != text:
        raise Malformed("not bech32 of 32 bytes")
    return raw


# Files of age.


def derive(secret, salt, info):
    return HKDF(hashes.SHA256(), 32, salt, info).derive(secret)


class Identity:
    def __init__(self, line):
        if line != line.upper():
            raise Malformed("not in capitals")
        self.key = X25519PrivateKey.from_private_bytes(
            from_bech32(line.lower(), "age-secret-key-")
        )
        self.public = self.key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.recipient = bech32("age", self.public)


def identities(text):
    """Those of a key file of a store: one a line and nothing else."""
    if not re.fullmatch(r"([^\n]+\n)+", text):
        raise Malformed("not one identity a line")
    return [Identity(line) for line in text.split("\n")[:-1]]


def identity_file(text):
    lines = [line.strip() for line in text.splitlines()]
    return [Identity(line) for line in lines if line and not line.startswith("#")]


def unpadded(text):
    try:
        raw = base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except ValueError as error:
        raise Malformed("not base64") from error
    if base64.b64encode(raw).rstrip(b"=") != text:
        raise Malformed("not base64 as it must be")
    return raw


def decrypt(file, known):
    """A file's content; None if it is for none of the identities."""
    head, mark, rest = file.partition(b"\n--- ")
    mac, _, payload = rest.partition(b"\n")
    lines = head.split(b"\n")
    if not mark or lines[0] != b"age-encryption.org/v1":
        raise Malformed("not a file of age")
    key = file_key(lines[1:], known)
    if key is None:
        return None
    check = hmac.HMAC(derive(key, b"", b"header"), hashes.SHA256())
    check.update(head + b"\n---")
    if check.finalize() != unpadded(mac):
        raise Malformed("another header")
    cipher = ChaCha20Poly1305(derive(key, payload[:16], b"payload"))
    content, at, number = b"", 16, 0
    while True:
        chunk = payload[at : at + CHUNK + 16]
        at += len(chunk)
        last = at >= len(payload)
        try:
            opened = cipher.decrypt(number.to_bytes(11, "big") + bytes([last]), chunk, None)
        except (InvalidTag, ValueError) as error:
            raise Malformed("another payload") from error
        if not opened and number:
            raise Malformed("an empty chunk")
        content += opened
        number += 1
        if last:
            return content


def file_key(lines, known):
    at = 0
    while at < len(lines):
        arguments = lines[at].split(b" ")
        if arguments[0] != b"->":
            raise Malformed("no stanza")
        at += 1
        body = b""
        while at < len(lines):
            body += lines[at]
            at += 1
            if len(lines[at - 1]) < 64:
                break
        if arguments[1:2] == [b"X25519"]:
            share, wrapped = unpadded(arguments[2]), unpadded(body)
            for identity in known:
                shared = identity.key.exchange(X25519PublicKey.from_public_bytes(share))
                key = derive(shared, share + identity.public, b"age-encryption.org/v1/X25519")
                try:
                    return ChaCha20Poly1305(key).decrypt(bytes(12), wrapped, None)
                except InvalidTag:
                    continue
    return None


# Seals, and what they lead to.


@dataclass
class Seal:
    attach: bytes
    number: int
    wall: int
    commitment: bytes
    recipients: list
    wrapped: bytes
    signature: bytes
    message: bytes

    def secret(self, known):
        """The secret, for whom it names; None for others."""
        own = [identity for identity in known if identity.recipient in self.recipients]
        if not own:
            return None
        secret = decrypt(self.wrapped, own)
        if secret is None or len(secret) != 32 or commitment(secret) != self.commitment:
            raise Malformed("it does not hold what it commits to")
        return secret


def commitment(secret):
    return sha256(b"chaperone seal secret v1\0", secret)


def read_seal(body):
    reader = Reader(body)
    expect_version(reader)
    seal = Seal(
        reader.take(8), reader.u32(), reader.u64(), reader.take(32), reader.many(reader.text, 16),
        reader.blob(), reader.take(64), body[:-64],
    )
    reader.end()
    if not seal.recipients or len(seal.wrapped) > 16 * 1024:
        raise Malformed("no recipients, or too long a secret")
    for recipient in seal.recipients:
        from_bech32(recipient, "age")
    return seal


def session_key(secret, attach, session):
    return derive(secret, b"", b"chaperone session key v1\0" + attach + session)


def open_frames(key, lead, nonce, payload):
    """The compressed frames; None if they do not open."""
    try:
        return AESGCM(key).decrypt(nonce, payload, b"chaperone sealed frames v1\0" + lead)
    except InvalidTag:
        return None


def seal_frames(key, lead, nonce, compressed):
    return AESGCM(key).encrypt(nonce, compressed, b"chaperone sealed frames v1\0" + lead)


class Ring:
    """What a reader has: identities, and sessions' keys by (attach, seal, session)."""

    def __init__(self, known=()):
        self.known = list(known)
        self.keys = {}

    def take(self, text):
        """A bundle's keys, byte for byte as they are written."""
        read = {}
        for line in text.splitlines():
            fields = re.fullmatch(r"([0-9a-f]{16}) (\d+) ([0-9a-f]{16}) ([0-9a-f]{64})", line)
            if not fields:
                raise Malformed("not a key a line")
            attach, seal, session, key = fields.groups()
            number = int(seal)
            if str(number) != seal or number >= 1 << 32:
                raise Malformed("not a number")
            read[(bytes.fromhex(attach), number, bytes.fromhex(session))] = bytes.fromhex(key)
        again = "".join(
            f"{a.hex()} {n} {s.hex()} {key.hex()}\n" for (a, n, s), key in sorted(read.items())
        )
        if again != text:
            raise Malformed("not written as it must be")
        self.keys.update(read)
