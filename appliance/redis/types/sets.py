"""Sets, in the three encodings of redis-server.

    intset      members that are all canonical 64-bit integers    sorted list of int
    listpack    few short members                                 dict, in the order of insertion
    hashtable   everything else                                   Table of hash_table.py

A set goes from intset to listpack or hashtable, and from listpack to hashtable, when a member is added that
the encoding has no room for; it never comes back by removing members. The commands that store a result, and
SPOP with a count, make new sets and so may give a key a smaller encoding: what they do is in
commands/sets.py.

Order:      numeric in an intset, of insertion in a listpack, none in a hashtable.
Source:     OBJECT ENCODING and the order of replies of redis-server 8.2.
Invariants: exactly one of the three forms is in use; an intset has no member twice.
Errors:     none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from appliance.redis.hash_table import Table
from appliance.redis.integers import parse_integer
from appliance.redis.replies import integer_text
from appliance.redis.types.collection import Collection, EncodingLimits, MemberCollection
from appliance.redis.types.tables import DICT_ENTRY_BYTES, OBJECT_BYTES, bytes_size, table_size

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.redis.chance import Chance

INTSET: Final = 0
LISTPACK: Final = 1
HASHTABLE: Final = 2

# An intset's length must fit its header, whatever the configuration says.
_INTSET_HARD_LIMIT: Final = 1 << 30
_INTSET_MEMBER_BYTES: Final = 40  # an int object and its place in the list


def intset_capacity(limits: EncodingLimits) -> i64:
    """How many members an intset may have."""
    limit = limits.set_max_intset_entries
    return min(limit, _INTSET_HARD_LIMIT)


class Set(MemberCollection):
    """An unordered collection of distinct strings."""

    def __init__(self, limits: EncodingLimits, encoding: i64) -> None:
        """An empty set; `set_for` chooses the encoding for what will come."""
        super().__init__(limits)
        self.encoding_id: i64 = encoding
        self._ints: list[int] = []
        self._small: dict[bytes, None] = {}
        self._table: Table | None = Table(limits.hash_secret) if encoding == HASHTABLE else None

    def __len__(self) -> int:
        if self._table is not None:
            return len(self._table)
        return len(self._ints) if self.encoding_id == INTSET else len(self._small)

    def type_name(self) -> bytes:
        return b"set"

    def encoding(self) -> bytes:
        if self.encoding_id == INTSET:
            return b"intset"
        return b"listpack" if self.encoding_id == LISTPACK else b"hashtable"

    # Membership -----------------------------------------------------------------------------------

    def __contains__(self, member: bytes) -> bool:
        table = self._table
        if table is not None:
            return table.find(member) is not None
        if self.encoding_id == LISTPACK:
            return member in self._small
        number = parse_integer(member)
        if number is None:
            return False
        at = self._place_of(number)
        return at < len(self._ints) and self._ints[at] == number

    def _place_of(self, number: i64) -> i64:
        """The first place of the intset that holds `number` or a larger one."""
        ints = self._ints
        low: i64 = 0
        high: i64 = len(ints)
        while low < high:
            middle = (low + high) >> 1
            value: i64 = ints[middle]
            if value < number:
                low = middle + 1
            else:
                high = middle
        return low

    def add(self, member: bytes) -> bool:
        """Add a member; whether it is new."""
        table = self._table
        if table is not None:
            if table.find(member) is not None:
                return False
            if self.walk is not None:
                self.walk.changing(member)
            table.insert(member, None)
            return True
        if self.encoding_id == LISTPACK:
            small = self._small
            if member in small:
                return False
            limits = self.limits
            if len(small) < limits.set_max_listpack_entries and len(member) <= limits.set_max_listpack_value:
                small[member] = None
                return True
        else:
            number = parse_integer(member)
            if number is not None:
                return self.add_integer(number)
            if self._listpack_holds_integers_and(member):
                self.convert(LISTPACK)
                self._small[member] = None
                return True
        self.convert(HASHTABLE)
        table = self._table
        assert table is not None
        table.insert(member, None)
        return True

    def load(self, member: bytes) -> bool:
        """Add a member of a listpack that was restored; whether it is new.

        redis-server takes over such a listpack whatever the length of its strings.
        """
        if self.encoding_id == LISTPACK and len(self._small) < self.limits.set_max_listpack_entries:
            if member in self._small:
                return False
            self._small[member] = None
            return True
        return self.add(member)

    def add_integer(self, number: int) -> bool:
        """Add the member that spells `number` to an intset; whether it is new."""
        ints = self._ints
        value: i64 = number
        at = self._place_of(value)
        if at < len(ints):
            if ints[at] == number:
                return False
            ints.insert(at, number)
        else:
            ints.append(number)
        if len(ints) > intset_capacity(self.limits):
            self.convert(HASHTABLE)
        return True

    def _listpack_holds_integers_and(self, member: bytes) -> bool:
        """Whether the members of an intset and another one have room in a listpack."""
        ints = self._ints
        limits = self.limits
        if len(ints) >= limits.set_max_listpack_entries or len(member) > limits.set_max_listpack_value:
            return False
        if len(ints) == 0:
            return True
        longest = max(len(integer_text(ints[0])), len(integer_text(ints[-1])))
        return longest <= limits.set_max_listpack_value

    def remove(self, name: bytes) -> bool:
        """Take a member out; whether it was there."""
        table = self._table
        if table is not None:
            if self.walk is not None:
                self.walk.changing(name)
            return table.remove(name) is not None
        if self.encoding_id == LISTPACK:
            if name not in self._small:
                return False
            del self._small[name]
            return True
        number = parse_integer(name)
        if number is None:
            return False
        at = self._place_of(number)
        if at >= len(self._ints) or self._ints[at] != number:
            return False
        del self._ints[at]
        return True

    # Encoding -------------------------------------------------------------------------------------

    def expect(self, count: i64) -> None:
        """Make ready for the addition of up to `count` members: many at once make a hashtable at once."""
        if self.encoding_id == LISTPACK:
            if count > self.limits.set_max_listpack_entries:
                self.convert(HASHTABLE)
        elif self.encoding_id == INTSET and count > self.limits.set_max_intset_entries:
            self.convert(HASHTABLE)

    def convert(self, encoding: i64) -> None:
        """Change the encoding; to INTSET only when all members are integers."""
        members = self.members()
        self._ints = []
        self._small = {}
        self._table = None
        self.encoding_id = encoding
        if encoding == INTSET:
            for member in members:
                assert isinstance(member, bytes)
                self._ints.append(int(member))
            self._ints.sort()
        elif encoding == LISTPACK:
            for member in members:
                assert isinstance(member, bytes)
                self._small[member] = None
        else:
            table = Table(self.limits.hash_secret)
            for member in members:
                assert isinstance(member, bytes)
                table.insert(member, None)
            self._table = table

    # Everything, anything -------------------------------------------------------------------------

    def members(self) -> list[object]:
        """All members (bytes), in the order of the encoding."""
        table = self._table
        if table is not None:
            return [entry.key for entry in table.entries()]
        if self.encoding_id == LISTPACK:
            return list(self._small)
        return [integer_text(number) for number in self._ints]

    def random_member(self, random: Callable[[], int]) -> bytes:
        """A member of a set that is not empty, each with the same probability."""
        table = self._table
        if table is not None:
            entry = table.random_entry(random)
            assert entry is not None
            return entry.key
        drawn: i64 = random()
        if self.encoding_id == INTSET:
            return integer_text(self._ints[drawn % len(self._ints)])
        return _nth(self._small, drawn % len(self._small))

    def pop_random(self, chance: Chance) -> bytes:
        """Take a random member out of a set that is not empty."""
        table = self._table
        if table is not None:
            entry = table.take_random(chance)
            assert entry is not None
            if self.walk is not None:
                self.walk.gone(entry.key)
            return entry.key
        drawn = chance.draw()
        if self.encoding_id == INTSET:
            return integer_text(self._ints.pop(drawn % len(self._ints)))
        member = _nth(self._small, drawn % len(self._small))
        del self._small[member]
        return member

    def add_all(self, other: Set) -> None:
        """Add all members of another set."""
        for member in other.members():
            assert isinstance(member, bytes)
            self.add(member)

    @property
    def table(self) -> Table:
        """Of a hashtable."""
        table = self._table
        assert table is not None
        return table

    # The keyspace's business ----------------------------------------------------------------------

    def copy(self) -> Collection:
        other = Set(self.limits, self.encoding_id)
        if self._table is not None:
            # A member is its entry's key: nothing ever changes in it.
            other._table = self._table.copy(True)
        else:
            other._ints = self._ints.copy()
            other._small = self._small.copy()
        return other

    def memory_usage(self, samples: int) -> int:
        if self._table is not None:
            return OBJECT_BYTES + table_size(self._table, samples)
        if self.encoding_id == INTSET:
            return OBJECT_BYTES + len(self._ints) * _INTSET_MEMBER_BYTES
        held = sum([bytes_size(member) for member in self._small])
        return OBJECT_BYTES + len(self._small) * DICT_ENTRY_BYTES + held

    def release(self, budget: int) -> int:
        if self._table is not None:
            return self._table.release(budget)
        if self.encoding_id == INTSET:
            del self._ints[-budget:]
            return len(self._ints)
        left = budget
        while left > 0 and len(self._small) > 0:
            self._small.popitem()
            left -= 1
        return len(self._small)


def set_for(limits: EncodingLimits, first: bytes, expected: i64) -> Set:
    """An empty set in the encoding for `expected` members, of which `first` is one."""
    if expected <= limits.set_max_intset_entries and parse_integer(first) is not None:
        return Set(limits, INTSET)
    return Set(limits, LISTPACK if expected <= limits.set_max_listpack_entries else HASHTABLE)


def _nth(members: dict[bytes, None], index: i64) -> bytes:
    left = index
    for member in members:
        if left == 0:
            return member
        left -= 1
    raise IndexError(index)
