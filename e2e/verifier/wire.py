"""Bytes to values, as FORMAT.md writes them, and the one exception that ends a verification."""

import hashlib


class Break(Exception):
    """What is wrong first: its reason, where, and the same in words."""

    def __init__(self, reason, detail, session=None, sequence=None, file=None):
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.session = session
        self.sequence = sequence
        self.file = file

    def placed(self, session=None, sequence=None, file=None):
        """The same break, with what was not known where it was found."""
        if self.session is None and session is not None:
            self.session, self.sequence = session, sequence
        if self.file is None:
            self.file = file
        return self

    def view(self):
        return {
            "file": self.file,
            "session": self.session.hex() if self.session is not None else None,
            "sequence": self.sequence,
            "reason": self.reason,
            "detail": self.detail,
        }


class Malformed(Exception):
    """Bytes that are not what the format says; whoever reads them knows which reason that is."""


def sha256(*parts):
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.digest()


class Reader:
    """Takes values off the front of some bytes and refuses what is not there."""

    def __init__(self, data):
        self.data = data
        self.at = 0

    def take(self, count):
        end = self.at + count
        if end > len(self.data):
            raise Malformed(f"{count} bytes wanted, {len(self.data) - self.at} left")
        piece = self.data[self.at : end]
        self.at = end
        return piece

    def integer(self, size):
        return int.from_bytes(self.take(size), "big")

    def u8(self):
        return self.integer(1)

    def u32(self):
        return self.integer(4)

    def u64(self):
        return self.integer(8)

    def i64(self):
        return int.from_bytes(self.take(8), "big", signed=True)

    def flag(self):
        value = self.u8()
        if value > 1:
            raise Malformed(f"{value} is no flag")
        return value == 1

    def blob(self):
        return self.take(self.u32())

    def text(self):
        try:
            return self.blob().decode("utf-8")
        except UnicodeDecodeError as error:
            raise Malformed("a text is not UTF-8") from error

    def option(self, read):
        return read() if self.flag() else None

    def many(self, read, most=None):
        count = self.u32()
        if most is not None and count > most:
            raise Malformed(f"{count} things, at most {most}")
        return [read() for _ in range(count)]

    def code(self, known):
        value = self.u8()
        if value not in known:
            raise Malformed(f"unknown code {value}")
        return known[value]

    def end(self):
        if self.at != len(self.data):
            raise Malformed(f"{len(self.data) - self.at} bytes left over")


def expect_version(reader):
    version = reader.u8()
    if version != 1:
        raise Malformed(f"version {version}")
