"""Commands on the bits of strings.

Source:     https://redis.io/docs/latest/commands/?group=bitmap; order of checks and texts from redis-server
            8.2.
Units:      offsets in bits, bit 0 being the highest of byte 0.
Errors:     CommandError: WRONGTYPE, an offset at or beyond proto-max-bulk-len bytes, a bit that is none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from appliance.redis import bits, errors
from appliance.redis.arguments import integer_argument
from appliance.redis.errors import CommandError
from appliance.redis.integers import I64_MAX, I64_MIN, parse_integer
from appliance.redis.notifications import NOTIFY_STRING
from appliance.redis.values import StringBuffer, string_text, writable_buffer

if TYPE_CHECKING:
    from appliance.redis.registry import GetKeys, Handler
    from appliance.redis.session import Session

_BAD_OFFSET: Final = b"ERR bit offset is not an integer or out of range"
_BAD_BIT: Final = b"ERR bit is not an integer or out of range"
_BAD_FIELD: Final = (
    b"ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is."
)

# Long strings are worked through in pieces of this size: they stay in the processor's cache.
_PIECE: Final = 32 * 1024


def _offset_argument(session: Session, text: bytes, field_width: int) -> int:
    """The offset of a bit; `#3` is that of the fourth field when a field width is given (not 0)."""
    counts_fields = field_width > 0 and text.startswith(b"#")
    offset = parse_integer(text[1:] if counts_fields else text)
    if offset is None:
        raise CommandError(_BAD_OFFSET)
    if counts_fields:
        # The server multiplies in 64 bits and looks only at what is left of the product.
        offset = (offset * field_width - I64_MIN) % (1 << 64) + I64_MIN
    limit: int = session.engine.max_bulk
    if offset < 0 or offset >> 3 >= limit:
        raise CommandError(_BAD_OFFSET)
    return offset


def _readable(session: Session, key: bytes) -> bytes | bytearray | None:
    """The bytes of the string at a key, without a copy; None when there is no key."""
    value = session.db.lookup_read(key)
    if value is None:
        return None
    return value.data if isinstance(value, StringBuffer) else string_text(value)


def _writable(session: Session, key: bytes, size: int) -> tuple[bytearray, bool]:
    """The bytes of the string at a key, made if need be, to change in place, and whether there are more now.

    There are at least `size` of them.
    """
    entry = session.db.lookup_write(key)
    if entry is None:
        entry = session.db.add(key, StringBuffer(b""))
    buffer = writable_buffer(entry)
    has_grown = buffer.grow(size)
    return buffer.data, has_grown


def setbit(session: Session, args: list[bytes]) -> object:
    offset = _offset_argument(session, args[2], 0)
    wanted = parse_integer(args[3])
    if wanted is None or wanted & ~1:
        raise CommandError(_BAD_BIT)
    key = args[1]
    entry = session.db.lookup_write(key)
    if entry is None:
        entry = session.db.add(key, StringBuffer(b""))
    buffer = writable_buffer(entry)
    at = offset >> 3
    has_grown = buffer.grow(at + 1)
    data = buffer.data
    mask = 0x80 >> (offset & 7)
    byte = data[at]
    before = 1 if byte & mask else 0
    if has_grown or before != wanted:
        data[at] = byte | mask if wanted else byte & ~mask
        session.changed(key)
        session.notify(NOTIFY_STRING, b"setbit", key)
    return before


def getbit(session: Session, args: list[bytes]) -> object:
    offset = _offset_argument(session, args[2], 0)
    data = _readable(session, args[1])
    if data is None or offset >> 3 >= len(data):
        return 0
    return data[offset >> 3] >> (7 - (offset & 7)) & 1


# Ranges -------------------------------------------------------------------------------------------


def _counts_bits(unit: bytes) -> bool:
    """Whether a range is given in bits, by its unit."""
    word = unit.lower()
    if word == b"bit":
        return True
    if word == b"byte":
        return False
    raise CommandError(errors.SYNTAX)


def _bit_range(start: int, end: int, size: int, in_bits: bool) -> tuple[int, int]:
    """First and last bit of a range in a string of that many bytes; first > last when it is empty."""
    length = size * 8 if in_bits else size
    if start < 0 and end < 0 and start > end:
        return 1, 0
    start = max(0, start + length if start < 0 else start)
    end = min(max(0, end + length if end < 0 else end), length - 1)
    return (start, end) if in_bits else (start * 8, end * 8 + 7)


def bitcount(session: Session, args: list[bytes]) -> object:
    count = len(args)
    if count not in (2, 4, 5):
        raise CommandError(errors.SYNTAX)
    start = end = 0
    in_bits = False
    if count > 2:
        start = integer_argument(args[2])
        end = integer_argument(args[3])
        in_bits = count == 5 and _counts_bits(args[4])
    data = _readable(session, args[1])
    if data is None:
        return 0
    if count == 2:
        return _count_bytes(data, 0, len(data))
    first, last = _bit_range(start, end, len(data), in_bits)
    if first > last:
        return 0
    start = first >> 3
    end = last >> 3
    # Without what the first and the last byte hold outside of the range.
    found = _count_bytes(data, start, end + 1) - (data[start] >> (8 - (first & 7))).bit_count()
    return found - (data[end] & (0x7F >> (last & 7))).bit_count()


def _count_bytes(data: bytes | bytearray, start: int, stop: int) -> int:
    """Set bits in data[start:stop]."""
    found = 0
    while start < stop:
        end = min(stop, start + _PIECE)
        found += bits.count(bytes(memoryview(data)[start:end]))
        start = end
    return found


def bitpos(session: Session, args: list[bytes]) -> object:
    wanted = integer_argument(args[2])
    if wanted not in (0, 1):
        raise CommandError(b"ERR The bit argument must be 1 or 0.")
    count = len(args)
    if count > 6:
        raise CommandError(errors.SYNTAX)
    start = integer_argument(args[3]) if count > 3 else 0
    in_bits = count == 6 and _counts_bits(args[5])
    end = integer_argument(args[4]) if count > 4 else -1
    data = _readable(session, args[1])
    if data is None:
        return -1 if wanted else 0
    length = len(data) * 8 if in_bits else len(data)
    # Here a start behind the end is simply an empty range, also when both are negative.
    start = max(0, start + length if start < 0 else start)
    end = min(max(0, end + length if end < 0 else end), length - 1)
    if start > end:
        return -1
    first, last = (start, end) if in_bits else (start * 8, end * 8 + 7)
    found = _find_bit(data, wanted, first, last)
    if found >= 0 or wanted or count > 4:
        return found
    # All ones, and no end was given: the string counts as followed by zeros.
    return len(data) * 8


def _find_bit(data: bytes | bytearray, wanted: int, first: int, last: int) -> int:
    """The position of the first such bit in first .. last, or -1."""
    at = first >> 3
    filler = 0 if wanted else 0xFF
    # The bits of the first byte before the range look like what is not searched.
    ahead = 0xFF00 >> (first & 7) & 0xFF
    byte = data[at] & ~ahead & 0xFF if wanted else data[at] | ahead
    if byte == filler:
        at = bits.first_byte_unlike(data, at + 1, (last >> 3) + 1, filler)
        if at < 0:
            return -1
        byte = data[at]
    # The highest bit that is searched: of the byte itself, or of what differs from all ones.
    found = at * 8 + 8 - (byte ^ filler).bit_length()
    return found if found <= last else -1


# BITOP --------------------------------------------------------------------------------------------

_OPERATIONS: Final = (b"and", b"or", b"xor", b"not", b"diff", b"diff1", b"andor", b"one")


def bitop(session: Session, args: list[bytes]) -> object:
    operation = args[1].lower()
    if operation not in _OPERATIONS:
        raise CommandError(errors.SYNTAX)
    if operation == b"not" and len(args) != 4:
        raise CommandError(b"ERR BITOP NOT must be called with a single source key.")
    if operation in (b"diff", b"diff1", b"andor") and len(args) < 5:
        raise CommandError(
            b"ERR BITOP " + operation.upper() + b" must be called with at least two source keys."
        )
    sources: list[bytes | bytearray] = []
    size = 0
    for key in args[3:]:
        data = _readable(session, key)
        sources.append(b"" if data is None else data)
        size = max(size, len(sources[-1]))
    target = args[2]
    if size == 0:
        session.drop(target)
        return 0
    result = StringBuffer(b"")
    result.grow(size)
    at = 0
    while at < size:
        length = min(_PIECE, size - at)
        result.data[at : at + length] = _combined(operation, sources, at, length)
        at += length
    session.db.set_value(target, result)
    session.changed(target)
    session.notify(NOTIFY_STRING, b"set", target)
    return size


def _piece(source: bytes | bytearray, at: int, length: int) -> bytes:
    """That many bytes of a source, zeros behind its end."""
    found = bytes(memoryview(source)[at : at + length])
    return found if len(found) == length else found + bytes(length - len(found))


def _combined(operation: bytes, sources: list[bytes | bytearray], at: int, length: int) -> bytes:
    """The result of BITOP for one piece."""
    first = _piece(sources[0], at, length)
    if operation == b"not":
        return bits.combine(bits.AND_NOT, b"\xff" * length, first)
    if operation == b"one":
        several = bytes(length)  # the bits that more than one source has
        for source in sources[1:]:
            if len(source) > at:
                other = _piece(source, at, length)
                several = bits.combine(bits.OR, several, bits.combine(bits.AND, first, other))
                first = bits.combine(bits.OR, first, other)
        return bits.combine(bits.AND_NOT, first, several)
    if operation in (b"and", b"or", b"xor"):
        code = bits.AND if operation == b"and" else bits.OR if operation == b"or" else bits.XOR
        for source in sources[1:]:
            if len(source) > at:
                first = bits.combine(code, first, _piece(source, at, length))
            elif code == bits.AND:
                return bytes(length)
        return first
    others = bytes(length)
    for source in sources[1:]:
        if len(source) > at:
            others = bits.combine(bits.OR, others, _piece(source, at, length))
    if operation == b"diff":
        return bits.combine(bits.AND_NOT, first, others)
    if operation == b"diff1":
        return bits.combine(bits.AND_NOT, others, first)
    return bits.combine(bits.AND, first, others)  # ANDOR


# BITFIELD -----------------------------------------------------------------------------------------

_GET: Final = 0
_SET: Final = 1
_INCREMENT: Final = 2

_WRAP: Final = 0
_SATURATE: Final = 1
_FAIL: Final = 2


class _FieldStep:
    """One GET, SET or INCRBY of a BITFIELD."""

    def __init__(self, action: int, is_signed: bool, width: int, offset: int) -> None:
        self.action = action
        self.is_signed = is_signed
        self.width = width
        self.offset = offset
        self.number = 0
        self.overflow = _WRAP


def _field_type(text: bytes) -> tuple[bool, int]:
    """Signedness and width of a field: `i16`, `u8`. The text is a C string: a NUL ends it."""
    text = text.split(b"\0", 1)[0]
    is_signed = text.startswith(b"i")
    width = parse_integer(text[1:])
    if not (is_signed or text.startswith(b"u")) or width is None or not 1 <= width <= 63 + is_signed:
        raise CommandError(_BAD_FIELD)
    return is_signed, width


def _overflow_type(word: bytes) -> int:
    name = word.lower()
    if name == b"wrap":
        return _WRAP
    if name == b"sat":
        return _SATURATE
    if name == b"fail":
        return _FAIL
    raise CommandError(b"ERR Invalid OVERFLOW type specified")


def _field_steps(session: Session, args: list[bytes]) -> list[_FieldStep]:
    steps: list[_FieldStep] = []
    overflow = _WRAP
    at = 2
    while at < len(args):
        word = args[at].lower()
        left = len(args) - at - 1
        if word == b"get" and left >= 2:
            action = _GET
        elif word == b"set" and left >= 3:
            action = _SET
        elif word == b"incrby" and left >= 3:
            action = _INCREMENT
        elif word == b"overflow" and left >= 1:
            overflow = _overflow_type(args[at + 1])
            at += 2
            continue
        else:
            raise CommandError(errors.SYNTAX)
        is_signed, width = _field_type(args[at + 1])
        step = _FieldStep(action, is_signed, width, _offset_argument(session, args[at + 2], width))
        step.overflow = overflow
        at += 3
        if action != _GET:
            step.number = integer_argument(args[at])
            at += 1
        steps.append(step)
    return steps


def _get_field(data: bytes | bytearray, step: _FieldStep) -> int:
    """The number in a field; bits behind the end of the string are zero."""
    first = step.offset >> 3
    last = (step.offset + step.width - 1) >> 3
    window = int.from_bytes(data[first : last + 1], "big")
    window <<= 8 * (last + 1 - max(first, min(last + 1, len(data))))
    number = window >> (7 - ((step.offset + step.width - 1) & 7)) & ((1 << step.width) - 1)
    if step.is_signed and number >> (step.width - 1):
        number -= 1 << step.width
    return number


def _set_field(data: bytearray, step: _FieldStep, number: int) -> None:
    first = step.offset >> 3
    last = (step.offset + step.width - 1) >> 3
    shift = 7 - ((step.offset + step.width - 1) & 7)
    mask = (1 << step.width) - 1
    window = int.from_bytes(data[first : last + 1], "big")
    window = window & ~(mask << shift) | (number & mask) << shift
    data[first : last + 1] = window.to_bytes(last + 1 - first, "big")


def _fitting(step: _FieldStep, number: int) -> int | None:
    """A number as its field can hold it, by the step's rule of overflow; None: it fails."""
    low = -(1 << (step.width - 1)) if step.is_signed else 0
    high = (1 << (step.width - step.is_signed)) - 1
    if low <= number <= high:
        return number
    if step.overflow == _FAIL:
        return None
    if step.overflow == _SATURATE:
        # The server takes a SET that is so far below the field that the distance to its highest number
        # does not fit 64 bits for one above it.
        is_far_below = step.action == _SET and step.width < 64 and high - number > I64_MAX
        return high if number > high or is_far_below else low
    wrapped = number & ((1 << step.width) - 1)
    return wrapped - (1 << step.width) if step.is_signed and wrapped > high else wrapped


def _bitfield(session: Session, args: list[bytes], is_read_only: bool) -> object:
    steps = _field_steps(session, args)
    size = 0
    for step in steps:
        if step.action != _GET:
            size = max(size, (step.offset + step.width + 7) >> 3)
    replies: list[object] = []
    key = args[1]
    if size == 0:
        found = _readable(session, key)
        replies.extend([_get_field(b"" if found is None else found, step) for step in steps])
        return replies
    if is_read_only:
        raise CommandError(b"ERR BITFIELD_RO only supports the GET subcommand")
    data, has_grown = _writable(session, key, size)
    changes: i64 = 0
    for step in steps:
        before = _get_field(data, step)
        if step.action == _GET:
            replies.append(before)
            continue
        number = step.number
        if step.action == _INCREMENT:
            number += before
        elif not step.is_signed and number < 0:
            number += 1 << 64  # SET takes the argument as unsigned: beyond every field
        after = _fitting(step, number)
        if after is None:
            replies.append(None)
            continue
        replies.append(after if step.action == _INCREMENT else before)
        _set_field(data, step, after)
        if has_grown or after != before:
            changes += 1
    if changes:
        session.changed(key, changes)
        session.notify(NOTIFY_STRING, b"setbit", key)
    return replies


def bitfield(session: Session, args: list[bytes]) -> object:
    return _bitfield(session, args, False)


def bitfield_ro(session: Session, args: list[bytes]) -> object:
    return _bitfield(session, args, True)


def _bitfield_keys(args: list[bytes]) -> list[tuple[bytes, list[str]]]:
    """BITFIELD only reads when it has nothing but GET."""
    at = 2
    while at < len(args):
        word = args[at].lower()
        left = len(args) - at - 1
        if word == b"get" and left >= 2:
            at += 3
        elif word == b"overflow" and left >= 1:
            at += 2
        else:
            return [(args[1], ["RW", "access", "update"])]
    return [(args[1], ["RO", "access"])]


HANDLERS: Final[dict[str, Handler]] = {
    "bitcount": bitcount,
    "bitfield": bitfield,
    "bitfield_ro": bitfield_ro,
    "bitop": bitop,
    "bitpos": bitpos,
    "getbit": getbit,
    "setbit": setbit,
}
GET_KEYS: Final[dict[str, GetKeys]] = {"bitfield": _bitfield_keys}
