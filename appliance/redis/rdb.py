"""The file in which Redis keeps all its data, and sends it to whoever asks for it (SYNC).

    "REDIS" version (4 digits)   opcodes and keys   EOF   CRC-64 of all before (8 bytes, low first; 0: none)

A byte below 200 is the type of a value, which a key and the value follow as in a dump (dump.py); a higher one
is an opcode: what is said of the file (AUX), a library of functions, the database that follows (SELECTDB) and
how many keys it has (RESIZEDB), or what is said of the next key (when it expires, when or how often it was
used).

The writer is handed one thing after the other and gives away what it has written in pieces of any size, so a
keyspace need not be in memory twice. What is in which order, and when, is snapshot.py's business.

Source:     https://rdb.fnordig.de/file_format.html for the older opcodes; the files of redis-server for the
            others. Loading is what tests/conformance/redis/test_conformance_rdb.py compares.
Also read:  files of Valkey 9, which begin otherwise ("VALKEY080") and have a type of their own for hashes.
Units:      milliseconds of Unix time; seconds in a file of old (EXPIRETIME) and for idle times.
Errors:     PayloadError for what is no such file; nothing else, whatever the bytes.
Not here:   data of modules (MODULE_AUX), which is refused; functions of 7.0's release candidates likewise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from librt.strings import BytesWriter, read_i32_le, read_i64_le, write_i64_le
from mypy_extensions import i64

from appliance.redis.crc64 import crc64
from appliance.redis.dump import (
    FUNCTION,
    VALKEY_HASH,
    VERSION,
    PayloadError,
    PayloadReader,
    Sink,
    read_value,
    write_function,
    write_length,
    write_string,
    write_value,
)
from appliance.redis.entry import NO_EXPIRY

if TYPE_CHECKING:
    from appliance.redis.piecewise import Piecewise
    from appliance.redis.types.collection import EncodingLimits

_MAGIC: Final = b"REDIS"
_VALKEY_MAGIC: Final = b"VALKEY"
_VALKEY_VERSION: Final = 80
_VALKEY_HASH: Final = 22
_MAGIC_SIZE: Final = 9  # with the version
_CHECKSUM_SIZE: Final = 8
_OLDEST_WITH_CHECKSUM: Final = 5

_SLOT_INFO: Final = 244
_IDLE: Final = 248
_FREQUENCY: Final = 249
_AUX: Final = 250
_RESIZEDB: Final = 251
_EXPIRETIME_MS: Final = 252
_EXPIRETIME: Final = 253
_SELECTDB: Final = 254
_EOF: Final = 255

_LAST_TYPE: Final = 200

UNKNOWN: Final = -1
"""Of an idle time or a frequency: the file does not say."""

# What `RdbReader.next` has found.
KEY: Final = 1
LIBRARY: Final = 2
ABOUT: Final = 3
END: Final = 0


class RdbWriter:
    """Writes a file. The caller says what is in it, in an order that makes sense."""

    def __init__(self, has_checksum: bool = True) -> None:
        self._sink = Sink()
        self._has_checksum = has_checksum
        self._sink.out.write(_MAGIC + b"%04d" % VERSION)

    def size(self) -> i64:
        """Bytes that wait to be taken."""
        return self._sink.size()

    def about(self, name: bytes, text: bytes) -> None:
        """Something about the file (AUX)."""
        self._sink.out.append(_AUX)
        write_string(self._sink.out, name)
        write_string(self._sink.out, text)

    def library(self, code: bytes) -> None:
        """A library of functions."""
        write_function(self._sink.out, code)

    def select(self, database: int) -> None:
        """The keys that follow are of this database."""
        self._sink.out.append(_SELECTDB)
        write_length(self._sink.out, database)

    def sizes(self, keys: int, expiring: int) -> None:
        """How many keys the database has in all, and how many of them expire."""
        self._sink.out.append(_RESIZEDB)
        write_length(self._sink.out, keys)
        write_length(self._sink.out, expiring)

    def key(
        self, key: bytes, value: object, expire_at_ms: i64, idle_s: i64 = UNKNOWN, frequency: i64 = UNKNOWN
    ) -> None:
        """A key.

        Args:
            expire_at_ms: NO_EXPIRY for one that does not.
            idle_s: for how long it has not been used, or UNKNOWN.
            frequency: how often it was used, as frequency.py counts, or UNKNOWN.
        """
        self.about_key(expire_at_ms, idle_s, frequency)
        write_value(self._sink, value, key)
        self._sink.settle()

    def about_key(self, expire_at_ms: i64, idle_s: i64, frequency: i64) -> None:
        """What comes before the value of the next key; see `key`."""
        out = self._sink.out
        if expire_at_ms != NO_EXPIRY:
            out.append(_EXPIRETIME_MS)
            write_i64_le(out, expire_at_ms)
        if idle_s != UNKNOWN:
            out.append(_IDLE)
            write_length(out, idle_s)
        if frequency != UNKNOWN:
            out.append(_FREQUENCY)
            out.append(frequency)

    def piece(self, value: Piecewise) -> i64:
        """Write more of a value that has been begun at `out`; what that has cost."""
        cost = value.step()
        self._sink.settle()
        return cost

    @property
    def out(self) -> BytesWriter:
        """For a value that is written in pieces."""
        return self._sink.out

    def end(self) -> None:
        """Nothing follows; to be taken one last time."""
        out = self._sink.out
        out.append(_EOF)
        write_i64_le(out, self._sink.checksum() if self._has_checksum else 0)

    def take(self) -> bytes:
        """What has been written since the last call."""
        return self._sink.take()


class RdbReader:
    """Reads a file, one thing after the other:

        while (found := reader.next()) != END: ...

    At a KEY, `value` has to be called before the next `next`.
    """

    def __init__(self, data: bytes) -> None:
        """Looks at the head and at the checksum.

        Raises:
            PayloadError: it is no such file, is damaged, or of a version that we do not know.
        """
        size: i64 = len(data)
        self._is_valkeys = data.startswith(_VALKEY_MAGIC)
        digits = data[len(_VALKEY_MAGIC if self._is_valkeys else _MAGIC) : _MAGIC_SIZE]
        if size <= _MAGIC_SIZE or not (self._is_valkeys or data.startswith(_MAGIC)) or not digits.isdigit():
            raise PayloadError("no file of Redis")
        version = int(digits)
        if version != _VALKEY_VERSION if self._is_valkeys else not 1 <= version <= VERSION:
            raise PayloadError("a file of a version that we do not know")
        if version >= _OLDEST_WITH_CHECKSUM:
            size -= _CHECKSUM_SIZE
            if size <= _MAGIC_SIZE:
                raise PayloadError("cut short")
            checksum = read_i64_le(data, size)
            if checksum != 0 and checksum != crc64(data, size):
                raise PayloadError("a wrong checksum")
        self._reader = PayloadReader(data, size)
        self._reader.at = _MAGIC_SIZE
        self._type = 0
        self.database = 0
        self.name = b""  # of what a file says about itself
        self.text = b""  # that, or the code of a library
        self.key = b""
        self.expire_at_ms = NO_EXPIRY
        self.idle_s = UNKNOWN
        self.frequency = UNKNOWN

    def next(self) -> int:
        """What comes next: KEY, LIBRARY, ABOUT or END.

        Raises:
            PayloadError: nothing that we know.
        """
        reader = self._reader
        self.expire_at_ms = NO_EXPIRY
        self.idle_s = UNKNOWN
        self.frequency = UNKNOWN
        while True:
            opcode = reader.byte()
            if opcode < _LAST_TYPE:
                self._type = VALKEY_HASH if self._is_valkeys and opcode == _VALKEY_HASH else opcode
                self.key = reader.string()
                return KEY
            if opcode == _EOF:
                return END
            if opcode == _AUX:
                self.name = reader.string()
                self.text = reader.string()
                return ABOUT
            if opcode == FUNCTION:
                self.text = reader.string()
                return LIBRARY
            self._note(reader, opcode)

    def _note(self, reader: PayloadReader, opcode: int) -> None:
        """What is said of the keys that follow."""
        if opcode == _EXPIRETIME_MS:
            self.expire_at_ms = reader.time_ms()
        elif opcode == _EXPIRETIME:
            seconds = i64(read_i32_le(reader.data, reader.take(4)))
            self.expire_at_ms = seconds * 1000
        elif opcode == _IDLE:
            self.idle_s = reader.length()
        elif opcode == _FREQUENCY:
            self.frequency = reader.byte()
        elif opcode == _SELECTDB:
            self.database = reader.length()
        elif opcode == _RESIZEDB:
            reader.length()
            reader.length()
        elif opcode == _SLOT_INFO:
            reader.length()
            reader.length()
            reader.length()
        else:
            raise PayloadError("an opcode that is none, or a module's")

    def value(self, limits: EncodingLimits) -> object:
        """The value of the key that `next` has found.

        Raises:
            PayloadError: it is none.
        """
        return read_value(self._reader, self._type, limits)
