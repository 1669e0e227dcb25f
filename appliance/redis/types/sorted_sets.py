"""Sorted sets: members by name, and in the order of their scores.

Two structures share the members:

    index   a hash table: the member of a name, SCAN with its guarantee
    tree    a counted B+ tree: members ordered by (score, name), with the number of members below each node

The index is a linear hash table (Litwin, 1980): it grows by one bucket per insertion and shrinks by two per
removal, so no write ever pays for a resize. A bucket is a chain through the members themselves. SCAN walks
the buckets in the order of their reversed bits, as redis-server walks its own, so what splits or merges
meanwhile is neither missed nor skipped.

In the tree a place is a rank, and a rank is a sum of counts along one path: rank of a member, member at a
rank, insertion and removal visit one node per level, of which a million members need four. Ranges are slices
of leaves. Every command on a range of scores or names first turns it into a range of ranks.

Both structures serve sets of any size; `listpack` and `skiplist` are what OBJECT ENCODING says. A listpack
keeps scores as text and turns -0 into 0, and looks for a range of names member by member; both show, and are
done here as well.

Source:     https://redis.io/docs/latest/develop/data-types/sorted-sets/; conversions as redis-server 8.2
            makes them (tests/conformance/redis/test_conformance_sorted_sets.py).
Units:      ranks count from 0; a range of ranks is half open.
Invariants: `SortedSet.check_invariants`. No score is a NaN. A member is in one set; its score changes only
            through its set.
Errors:     none; callers check ranges and NaNs.
Not here:   parsing, replies (commands/sorted_sets.py).
Why:        ADR 0017.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64, mypyc_attr

from appliance.redis.hash_table import next_cursor
from appliance.redis.types.collection import NOTHING_LEFT, Collection, EncodingLimits, MemberCollection

# A leaf's insertion moves this many pointers at most; a node's counts are added up one by one.
LEAF_MEMBERS: Final = 128
NODE_CHILDREN: Final = 32
# Nodes built from members in order are filled so far: room for insertions before the first split.
_BUILT_MEMBERS: Final = 96
_BUILT_CHILDREN: Final = 24
_FEWEST_BUCKETS: Final = 4

_HASH_MASK: Final = 0xFFFF_FFFF

# What a member of the tree and index costs, without its name: object, bucket, place in a leaf.
_MEMBER_BYTES: Final = 56 + 8 + 12
_BYTES_HEADER: Final = 33
_SET_BYTES: Final = 400


def _hash_of(name: bytes) -> i64:
    h: i64 = hash(name)  # SipHash under a key drawn per process
    return h & _HASH_MASK


@mypyc_attr(acyclic=True)
class Member:
    """A name with its score."""

    def __init__(self, name: bytes, score: float) -> None:
        self.name = name
        self.score = score
        self.hash: i64 = _hash_of(name)
        self.chained: Member | None = None  # the next one of its bucket

    def __repr__(self) -> str:
        return f"Member({self.name!r}, {self.score!r})"

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, Member):
            return NotImplemented
        return _is_before(self, other.score, other.name)


def _is_before(member: Member, score: float, name: bytes) -> bool:
    if member.score < score:
        return True
    return member.score == score and member.name < name


class ScoreRange:
    """Scores from `low` to `high`, each bound inclusive or not."""

    def __init__(self, low: float, low_is_open: bool, high: float, high_is_open: bool) -> None:
        self.low = low
        self.high = high
        self.low_is_open = low_is_open
        self.high_is_open = high_is_open


# The two bounds of a range of names that are no names.
LEAST: Final = -1
GREATEST: Final = 1
A_NAME: Final = 0


class NameRange:
    """Names from `low` to `high`; a kind says whether a bound is a name, or beyond all of them."""

    def __init__(
        self, low_kind: i64, low: bytes, low_is_open: bool, high_kind: i64, high: bytes, high_is_open: bool
    ) -> None:
        self.low_kind = low_kind
        self.low = low
        self.low_is_open = low_is_open
        self.high_kind = high_kind
        self.high = high
        self.high_is_open = high_is_open

    def is_above_low(self, name: bytes) -> bool:
        if self.low_kind != A_NAME:
            return self.low_kind == LEAST
        return name > self.low if self.low_is_open else name >= self.low

    def is_below_high(self, name: bytes) -> bool:
        if self.high_kind != A_NAME:
            return self.high_kind == GREATEST
        return name < self.high if self.high_is_open else name <= self.high

    def is_empty(self) -> bool:
        """Whether no name at all lies within."""
        if self.low_kind != A_NAME or self.high_kind != A_NAME:
            return self.low_kind == GREATEST or self.high_kind == LEAST
        return self.low > self.high or (self.low == self.high and (self.low_is_open or self.high_is_open))


# The index ----------------------------------------------------------------------------------------


class MemberIndex:
    """Members by name: a linear hash table.

    With `_mask + 1 + _split` buckets: those below `_split` have been split, they and their new halves are
    addressed by one bit more than the others.
    """

    def __init__(self) -> None:
        self._buckets: list[Member | None] = [None] * _FEWEST_BUCKETS
        self._mask: i64 = _FEWEST_BUCKETS - 1
        self._split: i64 = 0
        self._used: i64 = 0

    def __len__(self) -> int:
        return self._used

    def _bucket_of(self, h: i64) -> i64:
        at = h & self._mask
        return at if at >= self._split else h & (self._mask * 2 + 1)

    def find(self, name: bytes) -> Member | None:
        h = _hash_of(name)
        member = self._buckets[self._bucket_of(h)]
        while member is not None:
            if member.hash == h and member.name == name:
                return member
            member = member.chained
        return None

    def insert(self, member: Member) -> None:
        """Add a member whose name is not in the index."""
        buckets = self._buckets
        at = self._bucket_of(member.hash)
        member.chained = buckets[at]
        buckets[at] = member
        self._used += 1
        if self._used > len(buckets):
            self._split_one()

    def _split_one(self) -> None:
        buckets = self._buckets
        bit = self._mask + 1
        member = buckets[self._split]
        low: Member | None = None
        high: Member | None = None
        while member is not None:
            following = member.chained
            if member.hash & bit == 0:
                member.chained = low
                low = member
            else:
                member.chained = high
                high = member
            member = following
        buckets[self._split] = low
        buckets.append(high)
        self._split += 1
        if self._split > self._mask:
            self._mask = self._mask * 2 + 1
            self._split = 0

    def discard(self, member: Member) -> None:
        """Take out a member of the index."""
        buckets = self._buckets
        at = self._bucket_of(member.hash)
        before = buckets[at]
        if before is member:
            buckets[at] = member.chained
        else:
            while True:
                assert before is not None
                following = before.chained
                if following is member:
                    break
                before = following
            before.chained = member.chained
        member.chained = None
        self._used -= 1
        # Half empty before it shrinks, so that no writes make it go to and fro; then faster than it drains.
        merges: i64 = 2
        while merges > 0 and self._used * 2 < len(buckets) and len(buckets) > _FEWEST_BUCKETS:
            self._merge_one()
            merges -= 1

    def _merge_one(self) -> None:
        buckets = self._buckets
        if self._split == 0:
            self._mask >>= 1
            self._split = self._mask + 1
        self._split -= 1
        last = buckets.pop()
        if last is None:
            return
        tail: Member = last
        while True:
            following = tail.chained
            if following is None:
                break
            tail = following
        tail.chained = buckets[self._split]
        buckets[self._split] = last

    def scan(self, cursor: int, out: list[Member]) -> int:
        """Append the members of one step of a ZSCAN to out; the next cursor, 0 at the end.

        A member that is there from the step with cursor 0 to the step that gives 0 is seen at least once.
        """
        mask = self._mask
        state: i64 = cursor & _HASH_MASK
        at = state & mask
        if at >= self._split:
            self._emit(at, out)
            return next_cursor(at, mask)
        # Split already: both halves, from the one that the cursor names on.
        wide = mask * 2 + 1
        state &= wide
        while True:
            self._emit(state, out)
            state = next_cursor(state, wide)
            if state & (mask + 1) == 0:
                return state

    def _emit(self, at: i64, out: list[Member]) -> None:
        member = self._buckets[at]
        while member is not None:
            out.append(member)
            member = member.chained

    def release(self, budget: int) -> int:
        """Let go of up to `budget` buckets; the index is not used any more. Buckets left."""
        left: i64 = len(self._buckets) - budget
        if left <= 0:
            self._buckets = []
            return NOTHING_LEFT
        del self._buckets[left:]
        return left

    def check_invariants(self) -> None:
        assert len(self._buckets) == self._mask + 1 + self._split
        used: i64 = 0
        for at in range(len(self._buckets)):
            member = self._buckets[at]
            while member is not None:
                used += 1
                assert self._bucket_of(member.hash) == at
                assert self.find(member.name) is member
                member = member.chained
        assert used == self._used
        assert used <= len(self._buckets)


# The tree -----------------------------------------------------------------------------------------


@mypyc_attr(acyclic=True)
class Node:
    """A leaf with members, or an inner node with children.

    Invariant: `count` members lie below, `first` is the least of them; all leaves are equally deep. Only the
    root may be an empty leaf.
    """

    def __init__(self, is_leaf: bool) -> None:
        self.is_leaf = is_leaf
        self.count: i64 = 0
        self.first: Member = _NOBODY
        self.members: list[Member] = _NO_MEMBERS if not is_leaf else []
        self.children: list[Node] = _NO_CHILDREN if is_leaf else []

    def size(self) -> i64:
        """Members or children of the node itself."""
        return len(self.members) if self.is_leaf else len(self.children)


_NOBODY: Final = Member(b"", 0.0)
_NO_MEMBERS: Final[list[Member]] = []
_NO_CHILDREN: Final[list[Node]] = []


def _leaf_of(members: list[Member]) -> Node:
    leaf = Node(True)
    leaf.members = members
    leaf.count = len(members)
    if len(members) > 0:
        leaf.first = members[0]
    return leaf


def _parent_of(children: list[Node]) -> Node:
    node = Node(False)
    node.children = children
    node.first = children[0].first
    for child in children:
        node.count += child.count
    return node


def _position(members: list[Member], score: float, name: bytes) -> i64:
    """How many of the members of a leaf come before (score, name)."""
    low: i64 = 0
    high: i64 = len(members)
    while low < high:
        middle = (low + high) >> 1
        if _is_before(members[middle], score, name):
            low = middle + 1
        else:
            high = middle
    return low


def _child_for(children: list[Node], score: float, name: bytes) -> i64:
    """The last child that does not begin behind (score, name); the first if all do."""
    low: i64 = 0
    high: i64 = len(children)
    while high - low > 1:
        middle = (low + high) >> 1
        first = children[middle].first
        if first.score < score or (first.score == score and first.name <= name):
            low = middle
        else:
            high = middle
    return low


def _insert(node: Node, member: Member, is_last: bool) -> Node | None:
    """Insert below a node; what it had to be split into, if it had to.

    Members that come in order fill the last node of each level; other splits leave two halves with room.
    """
    node.count += 1
    if node.is_leaf:
        members = node.members
        at = _position(members, member.score, member.name)
        members.insert(at, member)
        if at == 0:
            node.first = member
        size: i64 = len(members)
        if size <= LEAF_MEMBERS:
            return None
        keep = size - 1 if is_last and at == size - 1 else size >> 1
        right = _leaf_of(members[keep:])
        del members[keep:]
        node.count = keep
        return right
    children = node.children
    index = _child_for(children, member.score, member.name)
    child = children[index]
    is_last = is_last and index == len(children) - 1
    split = _insert(child, member, is_last)
    if index == 0:
        node.first = child.first
    if split is None:
        return None
    children.insert(index + 1, split)
    size = len(children)
    if size <= NODE_CHILDREN:
        return None
    keep = size - 1 if is_last else size >> 1
    right = _parent_of(children[keep:])
    del children[keep:]
    node.count -= right.count
    return right


def _remove(node: Node, score: float, name: bytes) -> None:
    """Remove the member, which is below this node."""
    node.count -= 1
    if node.is_leaf:
        members = node.members
        at = _position(members, score, name)
        members.pop(at)
        if at == 0 and len(members) > 0:
            node.first = members[0]
        return
    children = node.children
    index = _child_for(children, score, name)
    child = children[index]
    _remove(child, score, name)
    if _is_small(child):
        _settle(children, index)
    if len(children) > 0:
        node.first = children[0].first


def _take_end(node: Node, is_last: bool) -> Member:
    """Remove the first or last member below a node that has any, and give it."""
    node.count -= 1
    if node.is_leaf:
        members = node.members
        if is_last:
            return members.pop()
        member = members.pop(0)
        if len(members) > 0:
            node.first = members[0]
        return member
    children = node.children
    index: i64 = len(children) - 1 if is_last else 0
    child = children[index]
    member = _take_end(child, is_last)
    if _is_small(child):
        _settle(children, index)
    if len(children) > 0:
        node.first = children[0].first
    return member


def _settle(children: list[Node], index: i64) -> None:
    """A child has become small: drop it when it is empty, join it to a neighbour that has room."""
    child = children[index]
    if child.count == 0:
        children.pop(index)
        return
    if index > 0:
        index -= 1
    if index + 1 >= len(children):
        return
    left = children[index]
    right = children[index + 1]
    most: i64 = LEAF_MEMBERS if left.is_leaf else NODE_CHILDREN
    if (left.size() + right.size()) * 4 > most * 3:
        return
    if left.is_leaf:
        left.members.extend(right.members)
    else:
        left.children.extend(right.children)
    left.count += right.count
    children.pop(index + 1)


def _cut(node: Node, start: i64, stop: i64) -> None:
    """Remove the members of ranks start to stop below a node, without a look at them."""
    node.count -= stop - start
    if node.is_leaf:
        del node.members[start:stop]
        if len(node.members) > 0:
            node.first = node.members[0]
        return
    children = node.children
    # The children first to last have members to lose, those between `gone` and `end` all of theirs.
    first: i64 = 0
    while start >= children[first].count:
        start -= children[first].count
        stop -= children[first].count
        first += 1
    last = first
    gone = first
    if start > 0 or stop < children[first].count:
        count = children[first].count
        _cut(children[first], start, min(count, stop))
        stop -= count
        last += 1
        gone += 1
    while stop > 0 and stop >= children[last].count:
        stop -= children[last].count
        last += 1
    if stop > 0:
        _cut(children[last], 0, stop)
    del children[gone:last]
    # Who has become small stands beside the gap.
    if gone < len(children) and _is_small(children[gone]):
        _settle(children, gone)
    if 0 < gone <= len(children) and _is_small(children[gone - 1]):
        _settle(children, gone - 1)
    if len(children) > 0:
        node.first = children[0].first


def _is_small(node: Node) -> bool:
    return node.size() * 4 < (LEAF_MEMBERS if node.is_leaf else NODE_CHILDREN)


def _collect(node: Node, start: i64, stop: i64, out: list[Member]) -> None:
    """Append the members of ranks start to stop below a node."""
    if node.is_leaf:
        if stop - start == node.count:
            out.extend(node.members)
        else:
            out.extend(node.members[start:stop])
        return
    base: i64 = 0
    for child in node.children:
        if base >= stop:
            return
        end = base + child.count
        if end > start:
            _collect(
                child, start - base if start > base else 0, stop - base if stop < end else child.count, out
            )
        base = end


def _drop_last_leaf(node: Node) -> i64:
    """Take the last leaf out of a tree that is being released; how many members it had."""
    children = node.children
    last = children[-1]
    dropped = last.count if last.is_leaf else _drop_last_leaf(last)
    if last.is_leaf or len(last.children) == 0:
        children.pop()
    return dropped


def _tree_of(members: list[Member]) -> Node:
    """A tree of members in order; the list is not kept."""
    level: list[Node] = []
    at: i64 = 0
    total: i64 = len(members)
    if total <= LEAF_MEMBERS:
        return _leaf_of(members[:])
    while at < total:
        level.append(_leaf_of(members[at : at + _BUILT_MEMBERS]))
        at += _BUILT_MEMBERS
    while len(level) > 1:
        above: list[Node] = []
        at = 0
        total = len(level)
        while at < total:
            above.append(_parent_of(level[at : at + _BUILT_CHILDREN]))
            at += _BUILT_CHILDREN
        level = above
    return level[0]


# The type -----------------------------------------------------------------------------------------


class SortedSet(MemberCollection):
    """The value of a key."""

    def __init__(self, limits: EncodingLimits, is_listpack: bool = True) -> None:
        super().__init__(limits)
        self.is_listpack = is_listpack
        self._index = MemberIndex()
        self._root = Node(True)

    def __len__(self) -> int:
        return self._root.count

    def type_name(self) -> bytes:
        return b"zset"

    def encoding(self) -> bytes:
        return b"listpack" if self.is_listpack else b"skiplist"

    @property
    def index(self) -> MemberIndex:
        """For going through it."""
        return self._index

    # Members by name ------------------------------------------------------------------------------

    def find(self, name: bytes) -> Member | None:
        return self._index.find(name)

    def add(self, name: bytes, score: float) -> None:
        """Add a member that is not in the set."""
        if self.walk is not None:
            self.walk.changing(name)
        if self.is_listpack:
            limits = self.limits
            if (
                self._root.count >= limits.zset_max_listpack_entries
                or len(name) > limits.zset_max_listpack_value
            ):
                self.is_listpack = False
            else:
                score += 0.0  # -0 becomes 0
        member = Member(name, score)
        self._index.insert(member)
        self._enter(member)

    def _enter(self, member: Member) -> None:
        root = self._root
        split = _insert(root, member, True)
        if split is not None:
            self._root = _parent_of([root, split])

    def set_score(self, member: Member, score: float) -> None:
        """Give a member of the set another score."""
        if self.walk is not None:
            self.walk.changing(member.name)
        if self.is_listpack:
            score += 0.0
        if self._stays(member, score):
            return
        self._leave(member)
        member.score = score
        self._enter(member)

    def _stays(self, member: Member, score: float) -> bool:
        """Set the score of a member whose place does not change, if its leaf alone shows that."""
        node = self._root
        while not node.is_leaf:
            children = node.children
            node = children[_child_for(children, member.score, member.name)]
        members = node.members
        at = _position(members, member.score, member.name)
        last: i64 = len(members) - 1
        if at == 0 or at == last:
            if node is not self._root:
                return False
            if at == 0 and last > 0 and not score < members[1].score:
                return False
            if at == last and last > 0 and not score > members[at - 1].score:
                return False
        elif not members[at - 1].score < score or not score < members[at + 1].score:
            return False
        member.score = score
        return True

    def _leave(self, member: Member) -> None:
        _remove(self._root, member.score, member.name)
        self._lower()

    def _lower(self) -> None:
        root = self._root
        while not root.is_leaf and len(root.children) <= 1:
            root = Node(True) if len(root.children) == 0 else root.children[0]
        self._root = root

    def remove(self, name: bytes) -> bool:
        """Remove a member; whether it was there."""
        if self.walk is not None:
            self.walk.changing(name)
        member = self._index.find(name)
        if member is None:
            return False
        self._index.discard(member)
        self._leave(member)
        return True

    # Members by rank ------------------------------------------------------------------------------

    def rank(self, member: Member) -> int:
        """The rank of a member of the set."""
        return self._rank_of(member.score, member.name)

    def _rank_of(self, score: float, name: bytes) -> i64:
        """How many members come before (score, name)."""
        node = self._root
        rank: i64 = 0
        while not node.is_leaf:
            children = node.children
            index = _child_for(children, score, name)
            at: i64 = 0
            while at < index:
                rank += children[at].count
                at += 1
            node = children[index]
        return rank + _position(node.members, score, name)

    def at_rank(self, rank: int) -> Member:
        """The member of a rank from 0 to len - 1."""
        node = self._root
        left: i64 = rank
        while not node.is_leaf:
            children = node.children
            at: i64 = 0
            while True:
                child = children[at]
                if left < child.count:
                    break
                left -= child.count
                at += 1
            node = child
        return node.members[left]

    def slice(self, start: int, stop: int) -> list[Member]:
        """The members of ranks start to stop, a range within the set, as a list of its own."""
        out: list[Member] = []
        if start < stop:
            _collect(self._root, start, stop, out)
        return out

    def remove_slice(self, start: int, stop: int) -> None:
        """Remove the members of ranks start to stop, a range within the set."""
        if start >= stop:
            return
        index = self._index
        for member in self.slice(start, stop):
            if self.walk is not None:
                self.walk.changing(member.name)
            index.discard(member)
        _cut(self._root, start, stop)
        self._lower()

    def pop(self, is_last: bool) -> Member:
        """Remove the first or last member of a set that has any, and give it."""
        member = _take_end(self._root, is_last)
        self._lower()
        if self.walk is not None:
            self.walk.changing(member.name)
        self._index.discard(member)
        return member

    # Ranges of scores and names -------------------------------------------------------------------

    def ranks_of_scores(self, wanted: ScoreRange) -> tuple[int, int]:
        """The ranks of the members with a score in a range."""
        start = self._rank_by_score(wanted.low, wanted.low_is_open)
        stop = self._rank_by_score(wanted.high, not wanted.high_is_open)
        return start, max(start, stop)

    def _rank_by_score(self, score: float, behind: bool) -> i64:
        """How many members have a lower score, or the same one if `behind`."""
        node = self._root
        rank: i64 = 0
        while not node.is_leaf:
            children = node.children
            at: i64 = 0
            last: i64 = len(children) - 1
            while at < last:
                following = children[at + 1].first.score
                if following > score or (following == score and not behind):
                    break
                rank += children[at].count
                at += 1
            node = children[at]
        members = node.members
        low: i64 = 0
        high: i64 = len(members)
        while low < high:
            middle = (low + high) >> 1
            middle_score = members[middle].score
            if middle_score < score or (middle_score == score and behind):
                low = middle + 1
            else:
                high = middle
        return rank + low

    def ranks_of_names(self, wanted: NameRange, backwards: bool = False, skip: int = 0) -> tuple[int, int]:
        """The ranks of the members with a name in a range, where all have the same score.

        With different scores it is one stretch of the set that begins (or, backwards, ends) as
        redis-server's would: it looks at each member of a listpack, from that side.

        Args:
            backwards: whether the members will be read from the last one on.
            skip: how many of those that come first in that direction to leave out; 0 or more. The server does
                not look at them, which shows when scores differ.
        """
        if wanted.is_empty():
            return 0, 0
        if not self.is_listpack:
            start = self._rank_by_name(wanted, False)
            stop = self._rank_by_name(wanted, True)
            if stop - start <= skip:
                return 0, 0
            return (start, stop - skip) if backwards else (start + skip, stop)
        members = self.slice(0, len(self))
        total = len(members)
        if (
            total == 0
            or not wanted.is_above_low(members[-1].name)
            or not wanted.is_below_high(members[0].name)
        ):
            return 0, 0
        if backwards:
            stop = total
            while stop > 0 and not wanted.is_below_high(members[stop - 1].name):
                stop -= 1
            if stop == 0 or not wanted.is_above_low(members[stop - 1].name):
                return 0, 0
            stop -= min(skip, stop)
            at = stop
            while at > 0 and wanted.is_above_low(members[at - 1].name):
                at -= 1
            return at, stop
        at = 0
        while at < total and not wanted.is_above_low(members[at].name):
            at += 1
        if at == total or not wanted.is_below_high(members[at].name):
            return 0, 0
        at += min(skip, total - at)
        stop = at
        while stop < total and wanted.is_below_high(members[stop].name):
            stop += 1
        return at, stop

    def _rank_by_name(self, wanted: NameRange, behind: bool) -> i64:
        """How many members come before the range, or before its end if `behind`."""
        node = self._root
        rank: i64 = 0
        while not node.is_leaf:
            children = node.children
            at: i64 = 0
            last: i64 = len(children) - 1
            while at < last:
                name = children[at + 1].first.name
                if not (wanted.is_below_high(name) if behind else not wanted.is_above_low(name)):
                    break
                rank += children[at].count
                at += 1
            node = children[at]
        members = node.members
        low: i64 = 0
        high: i64 = len(members)
        while low < high:
            middle = (low + high) >> 1
            name = members[middle].name
            if wanted.is_below_high(name) if behind else not wanted.is_above_low(name):
                low = middle + 1
            else:
                high = middle
        return rank + low

    # The whole set --------------------------------------------------------------------------------

    def scan(self, cursor: int, out: list[Member]) -> int:
        """One step of a ZSCAN: see MemberIndex.scan."""
        return self._index.scan(cursor, out)

    def copy(self) -> Collection:
        members = [Member(member.name, member.score) for member in self.slice(0, len(self))]
        return _assembled(self.limits, members, self.is_listpack)

    def memory_usage(self, samples: int) -> int:
        total = len(self)
        if total == 0:
            return _SET_BYTES
        looked = total if samples <= 0 or samples > total else samples
        names = 0
        if looked == total:
            for member in self.slice(0, total):
                names += len(member.name)
        else:
            for index in range(looked):
                names += len(self.at_rank(index * total // looked).name)
        return _SET_BYTES + total * (_MEMBER_BYTES + _BYTES_HEADER) + names * total // looked

    def release(self, budget: int) -> int:
        # The leaves first: they hold references, the buckets then hold the last ones.
        left: i64 = budget
        while left > 0 and not self._root.is_leaf:
            left -= _drop_last_leaf(self._root)
            if len(self._root.children) == 0:
                self._root = Node(True)
        if self._root.is_leaf:
            self._root = Node(True)
        if left <= 0:
            return len(self._index)
        return self._index.release(left)

    def check_invariants(self) -> None:
        """Raise AssertionError when the structure is broken. O(n): tests only."""
        self._index.check_invariants()
        members = self.slice(0, len(self))
        assert len(self._index) == len(members)
        for at, member in enumerate(members):
            assert self.find(member.name) is member
            assert self.rank(member) == at
            assert self.at_rank(at) is member
            assert at == 0 or members[at - 1] < member
        _check_node(self._root, True)


def _check_node(node: Node, is_root: bool) -> int:
    """Check a node and all below; its height."""
    if node.is_leaf:
        assert node.count == len(node.members) <= LEAF_MEMBERS
        assert is_root or node.count > 0
        assert node.count == 0 or node.first is node.members[0]
        return 0
    assert 0 < len(node.children) <= NODE_CHILDREN
    assert not is_root or len(node.children) > 1
    assert node.first is node.children[0].first
    assert node.count == sum([int(child.count) for child in node.children])
    heights = {_check_node(child, False) for child in node.children}
    assert len(heights) == 1
    return heights.pop() + 1


def _assembled(limits: EncodingLimits, members: list[Member], is_listpack: bool) -> SortedSet:
    """A set of members in order, which are in no other set."""
    made = SortedSet(limits, is_listpack)
    made._root = _tree_of(members)
    index = made._index
    for member in members:
        index.insert(member)
    return made


def sorted_set_of(limits: EncodingLimits, members: list[Member]) -> SortedSet:
    """A set of members with distinct names, in any order, which become its own; the list is sorted.

    It has the encoding that redis-server gives to the result of a ZUNIONSTORE.
    """
    is_listpack = len(members) <= limits.zset_max_listpack_entries
    if is_listpack:
        most = limits.zset_max_listpack_value
        for member in members:
            if len(member.name) > most:
                is_listpack = False
                break
    if is_listpack:
        for member in members:
            member.score += 0.0
    members.sort()
    return _assembled(limits, members, is_listpack)
