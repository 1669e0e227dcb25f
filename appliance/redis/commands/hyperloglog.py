"""Commands on HyperLogLogs, which are strings of a certain form: types/hyperloglog.py.

Source:     https://redis.io/docs/latest/commands/?group=hyperloglog; order of checks and texts from
            redis-server 8.2.
Errors:     CommandError: WRONGTYPE for no string and for one of another form, INVALIDOBJ for a corrupted one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from librt.vecs import vec
from mypy_extensions import i64

from appliance.redis import errors
from appliance.redis.errors import CommandError
from appliance.redis.notifications import NOTIFY_STRING
from appliance.redis.replies import OK, SimpleString
from appliance.redis.types import hyperloglog
from appliance.redis.types.hyperloglog import DENSE, REGISTERS, SPARSE, Corrupted
from appliance.redis.values import StringBuffer, string_text

if TYPE_CHECKING:
    from appliance.redis.entry import Entry
    from appliance.redis.registry import Handler
    from appliance.redis.session import Session

_NOT_ONE: Final = b"WRONGTYPE Key is not a valid HyperLogLog string value."
_CORRUPTED: Final = b"INVALIDOBJ Corrupted HLL object detected"


def _data(value: object) -> bytearray:
    """The bytes of a HyperLogLog: its own when it can be changed in place, else a copy."""
    data = value.data if isinstance(value, StringBuffer) else bytearray(string_text(value))
    if not hyperloglog.is_valid(data):
        raise CommandError(_NOT_ONE)
    return data


def _writable(entry: Entry) -> bytearray:
    """The bytes of a HyperLogLog, to be changed in place."""
    data = _data(entry.value)
    if not isinstance(entry.value, StringBuffer):
        entry.value = StringBuffer(bytes(data))
    value = entry.value
    assert isinstance(value, StringBuffer)
    return value.data


def _create(session: Session, key: bytes) -> bytearray:
    value = StringBuffer(bytes(hyperloglog.new()))
    session.db.add(key, value)
    return value.data


def pfadd(session: Session, args: list[bytes]) -> object:
    key = args[1]
    entry = session.db.lookup_write(key)
    updated: i64 = 0
    if entry is None:
        data = _create(session, key)
        updated = 1
    else:
        data = _writable(entry)
    limit = session.engine.limits.hll_sparse_max_bytes
    try:
        updated += hyperloglog.add_all(data, args, 2, limit)
    except Corrupted:
        raise CommandError(_CORRUPTED) from None
    if updated == 0:
        return 0
    hyperloglog.invalidate(data)
    session.changed(key, updated)
    session.notify(NOTIFY_STRING, b"pfadd", key)
    return 1


def pfcount(session: Session, args: list[bytes]) -> object:
    try:
        if len(args) > 2:
            return hyperloglog.estimate(_union(session, args[1:]))
        entry = session.db.read_entry(args[1])
        if entry is None:
            return 0
        data = _writable(entry)
        count = hyperloglog.cached_count(data)
        if count is None:
            count = hyperloglog.estimate(hyperloglog.registers(data))
            hyperloglog.cache_count(data, count)
            # The string is another one now.
            session.changed(args[1])
        return count
    except Corrupted:
        raise CommandError(_CORRUPTED) from None


def _union(session: Session, keys: list[bytes]) -> vec[i64]:
    """The largest value of each register over all keys."""
    found: vec[i64] = vec[i64]([0] * REGISTERS)
    for key in keys:
        value = session.db.lookup_read(key)
        if value is not None:
            hyperloglog.raise_registers(found, _data(value))
    return found


def pfmerge(session: Session, args: list[bytes]) -> object:
    key = args[1]
    found: vec[i64] = vec[i64]([0] * REGISTERS)  # of those that are sparse
    is_found = False
    packed: bytes | None = None  # of those that are dense
    try:
        for each in args[1:]:
            source = session.db.lookup_read(each)
            if source is None:
                continue
            data = _data(source)
            if data[4] == SPARSE:
                hyperloglog.raise_registers(found, data)
                is_found = True
            else:
                this = hyperloglog.packed_registers(data)
                packed = this if packed is None else hyperloglog.merged(packed, this)
        entry = session.db.lookup_write(key)
        data = _create(session, key) if entry is None else _writable(entry)
        if packed is None:
            hyperloglog.write_registers(data, found, session.engine.limits.hll_sparse_max_bytes)
        else:
            if is_found:
                packed = hyperloglog.merged(packed, hyperloglog.packed(found))
            hyperloglog.set_dense(data, packed)
    except Corrupted:
        raise CommandError(_CORRUPTED) from None
    hyperloglog.invalidate(data)
    session.changed(key)
    session.notify(NOTIFY_STRING, b"pfadd", key)
    return OK


def pfdebug(session: Session, args: list[bytes]) -> object:
    """For tests of the representation."""
    subcommand = args[1].lower()
    if subcommand == b"simd":
        word = args[2].lower()
        if word not in (b"on", b"off"):
            raise CommandError(b"ERR Argument must be ON or OFF")
        return SimpleString(b"enabled" if word == b"on" else b"disabled")
    entry = session.db.lookup_write(args[2])
    if entry is None:
        raise CommandError(b"ERR The specified key does not exist")
    data = _writable(entry)
    if len(args) != 3:
        raise CommandError(errors.wrong_arity(b"pfdebug"))
    try:
        if subcommand == b"getreg":
            if data[4] == SPARSE:
                hyperloglog.to_dense(data)
                session.changed(args[2])
            found: list[object] = [int(value) for value in hyperloglog.registers(data)]
            return found
        if subcommand == b"decode":
            if data[4] != SPARSE:
                raise CommandError(b"ERR HLL encoding is not sparse")
            return hyperloglog.runs_text(data)
        if subcommand == b"encoding":
            return SimpleString(b"sparse" if data[4] == SPARSE else b"dense")
        if subcommand == b"todense":
            if data[4] == DENSE:
                return 0
            hyperloglog.to_dense(data)
            session.changed(args[2])
            return 1
    except Corrupted:
        raise CommandError(_CORRUPTED) from None
    raise CommandError(b"ERR Unknown PFDEBUG subcommand '" + errors.quoted(args[1], len(args[1])) + b"'")


# How many elements the self test counts, and by how many percent it may be off: four standard errors.
_TEST_ELEMENTS: Final = 5000
_TEST_PERCENT: Final = 4


def pfselftest(session: Session, args: list[bytes]) -> object:
    """Count known elements in both encodings: they must agree, and be about right."""
    sparse = hyperloglog.new()
    dense = hyperloglog.new()
    hyperloglog.to_dense(dense)
    for number in range(_TEST_ELEMENTS):
        element = b"%d" % number
        hyperloglog.add(sparse, element, 1 << 20)
        hyperloglog.add(dense, element, 0)
        if number % 500 == 0 and list(hyperloglog.registers(sparse)) != list(hyperloglog.registers(dense)):
            raise CommandError(b"ERR TESTFAILED the encodings differ after %d elements" % (number + 1))
    count = hyperloglog.estimate(hyperloglog.registers(sparse))
    if abs(count - _TEST_ELEMENTS) * 100 > _TEST_ELEMENTS * _TEST_PERCENT:
        raise CommandError(b"ERR TESTFAILED %d elements are counted as %d" % (_TEST_ELEMENTS, count))
    return OK


HANDLERS: Final[dict[str, Handler]] = {
    "pfadd": pfadd,
    "pfcount": pfcount,
    "pfdebug": pfdebug,
    "pfmerge": pfmerge,
    "pfselftest": pfselftest,
}
