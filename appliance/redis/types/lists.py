"""Lists: a sequence of nodes, each a short array of elements, fast at both ends.

redis-server keeps a small list as one listpack (elements packed into one block of memory) and a big one as a
quicklist (a chain of nodes, each a listpack of bounded size, or "plain": one large element alone). OBJECT
ENCODING tells which of the two it is, and whether a quicklist turns back into a listpack depends on how many
nodes it has and how many bytes its only node would take. So this structure has the same nodes: it cuts and
merges them where redis-server does, and knows of each how long its listpack would be. Elements themselves are
ordinary `bytes`, given out by reference.

    listpack     one node, grows until the next change would take it past list-max-listpack-size
    quicklist    nodes of up to list-max-listpack-size as it was when the list became one; back to a listpack
                 when it has shrunk to one node of at most half of that

A node, and the sequence of nodes, is an array with spare places at its front; taking from and adding to
either end is O(1). A position is found by walking over the nodes from the nearer end.

Source:     https://redis.io/docs/latest/develop/data-types/lists/ and the behaviour of redis-server 8.2;
            the sizes are those of the listpack format (antirez/listpack, listpack.md).
Units:      bytes of listpack (size), elements (count, length), positions from 0.
Invariants: `check_invariants`. No node of a quicklist is empty; a listpack has one node, empty only before
            its first element.
Errors:     IndexError for taking from an empty list; positions are the caller's to check.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from appliance.redis.integers import parse_integer
from appliance.redis.types.collection import NOTHING_LEFT, Collection, EncodingLimits

# Header and end mark of a listpack.
_EMPTY_SIZE: Final = 7
# What a node is assumed to need for an element beside its bytes when it is asked for room.
_ENTRY_OVERHEAD: Final = 8
# The size of a node whose limit is a number of elements.
_SAFE_SIZE: Final = 8192
_LARGEST_FILL: Final = (1 << 15) - 1
_NO_COUNT_LIMIT: Final = 1 << 40
_NODE_SIZES: Final[list[int]] = [4096, 8192, 16384, 32768, 65536]

# Spare places made at the front of an array at once, at most.
_SPARE: Final = 256
# Taken places at the front that are not worth giving back.
_TOLERATED: Final = 64

# What CPython takes for objects on a 64-bit machine: a `bytes` of length 0, and a node with its empty list.
_BYTES_OVERHEAD: Final = 33
_NODE_OVERHEAD: Final = 136
_LIST_OVERHEAD: Final = 160

_ZERO: Final = 48
_NINE: Final = 57
_MINUS: Final = 45
_LONGEST_INTEGER: Final = 20


def entry_size(value: bytes) -> i64:
    """Bytes that an element takes in a listpack: its encoding, and its length again for walking backwards."""
    length: i64 = len(value)
    size: i64 = 0
    if 0 < length <= _LONGEST_INTEGER:
        first: i64 = value[0]
        if first <= _NINE and (first >= _ZERO or first == _MINUS):
            size = _integer_size(value)
    if size == 0:
        if length < 64:
            size = 1 + length
        elif length < 4096:
            size = 2 + length
        else:
            size = 5 + length
    if size < 128:
        return size + 1
    if size < 16383:
        return size + 2
    if size < 2097151:
        return size + 3
    if size < 268435455:
        return size + 4
    return size + 5


def _integer_size(value: bytes) -> i64:
    """The size of an element that is a canonical 64-bit integer, else 0."""
    number = parse_integer(value)
    if number is None:
        return 0
    if 0 <= number <= 127:
        return 1
    if -(1 << 12) <= number < 1 << 12:
        return 2
    if -(1 << 15) <= number < 1 << 15:
        return 3
    if -(1 << 23) <= number < 1 << 23:
        return 4
    if -(1 << 31) <= number < 1 << 31:
        return 5
    return 9


def _size_limit(fill: i64) -> i64:
    """The largest listpack that list-max-listpack-size allows, in bytes."""
    if fill >= 0:
        return _SAFE_SIZE
    return _NODE_SIZES[min(-fill, 5) - 1]


def _count_limit(fill: i64) -> i64:
    """The most elements that list-max-listpack-size allows in one listpack."""
    if fill < 0:
        return _NO_COUNT_LIMIT
    return max(fill, 1)


def _object_size(value: bytes) -> i64:
    """Bytes of an element as an object: memory comes in pieces of 16 bytes."""
    length: i64 = len(value)
    return (_BYTES_OVERHEAD + length + 15) // 16 * 16


def _beyond_listpack(value: bytes) -> i64:
    """How many bytes more an element takes as an object than in a listpack."""
    return _object_size(value) - entry_size(value)


class Node:
    """Up to a few thousand elements: `items` from `start` on.

    Copies of a list share `items` until one of them changes it; `pack` makes it the node's own.
    """

    def __init__(self, items: list[bytes], size: i64, is_plain: bool) -> None:
        self.items = items
        self.start: i64 = 0
        self.size: i64 = size  # of its listpack; of a plain node: of the element
        self.is_plain = is_plain
        self.is_shared = False

    def count(self) -> i64:
        return len(self.items) - self.start

    def copy(self) -> Node:
        other = Node(self.items, self.size, self.is_plain)
        other.start = self.start
        self.is_shared = True
        other.is_shared = True
        return other

    def push_head(self, value: bytes) -> None:
        start = self.start
        if start == 0 or self.is_shared:
            items = self.pack()
            start = min(max(len(items), 8), _SPARE)
            self.items = [b""] * start + items
        start -= 1
        self.items[start] = value
        self.start = start
        self.size += entry_size(value)

    def push_tail(self, value: bytes) -> None:
        if self.is_shared:
            self.pack()
        self.items.append(value)
        self.size += entry_size(value)

    def pop_head(self) -> bytes:
        start = self.start
        items = self.items
        value = items[start]
        start += 1
        if not self.is_shared:
            items[start - 1] = b""
            if start > _TOLERATED and start * 2 > len(items):
                del items[:start]
                start = 0
        self.start = start
        self.size -= entry_size(value)
        return value

    def pop_tail(self) -> bytes:
        if self.is_shared:
            self.pack()
        value = self.items.pop()
        self.size -= entry_size(value)
        return value

    def replace(self, offset: i64, value: bytes) -> None:
        if self.is_shared:
            self.pack()
        place = self.start + offset
        self.size += entry_size(value) - entry_size(self.items[place])
        self.items[place] = value

    def pack(self) -> list[bytes]:
        """The elements alone, to be changed: no spare places in front, shared with nobody."""
        if self.is_shared:
            self.items = self.items[self.start :]
            self.start = 0
            self.is_shared = False
        elif self.start > 0:
            del self.items[: self.start]
            self.start = 0
        return self.items

    def find(self, value: bytes) -> i64:
        """The offset of the first element equal to value, or -1."""
        items = self.items
        end: i64 = len(items)
        at = self.start
        while at < end:
            if items[at] == value:
                return at - self.start
            at += 1
        return -1

    def elements_memory(self) -> i64:
        """About the bytes that the elements of a node that is not empty hold."""
        items = self.items
        first = self.start
        last: i64 = len(items) - 1
        count = last + 1 - first
        middle = (first + last) >> 1
        if self.is_plain:
            return _object_size(items[first])
        beyond = (
            _beyond_listpack(items[first]) + _beyond_listpack(items[middle]) + _beyond_listpack(items[last])
        )
        return self.size + beyond * count // 3

    def measure(self) -> None:
        """Find `size` anew."""
        size: i64 = _EMPTY_SIZE
        at = self.start
        end: i64 = len(self.items)
        while at < end:
            size += entry_size(self.items[at])
            at += 1
        self.size = size

    def delete(self, start: i64, count: i64) -> None:
        """Remove elements; not all of them if the node is to stay."""
        items = self.pack()
        end = start + count
        at = start
        while at < end:
            self.size -= entry_size(items[at])
            at += 1
        del items[start:end]

    def remove(self, value: bytes, limit: i64, from_tail: bool) -> i64:
        """Remove up to `limit` elements equal to value; how many there were."""
        at = self.find(value)  # most nodes have none: find out before copying
        if at < 0:
            return 0
        items = self.pack()
        length: i64 = len(items)
        kept: list[bytes] = []
        removed: i64 = 0
        if from_tail:
            at = length - 1
            while at >= 0:
                item = items[at]
                if removed < limit and item == value:
                    removed += 1
                else:
                    kept.append(item)
                at -= 1
            kept.reverse()
        else:
            kept = items[:at]
            while at < length:
                item = items[at]
                if removed < limit and item == value:
                    removed += 1
                else:
                    kept.append(item)
                at += 1
        self.items = kept
        self.size -= removed * entry_size(value)
        return removed


# Fills the spare places.
_NO_NODE: Final = Node([], 0, False)


class ListValue(Collection):
    """A list."""

    def __init__(self, limits: EncodingLimits) -> None:
        super().__init__(limits)
        self.length: i64 = 0
        self._is_listpack = True
        self._nodes: list[Node] = [Node([], _EMPTY_SIZE, False)]
        self._first: i64 = 0  # places before it in _nodes are spare
        # The limits of a quicklist's nodes, fixed when it becomes one.
        self._node_size: i64 = 0
        self._node_count: i64 = 0
        # Where the last search ended.
        self._at: i64 = 0  # in _nodes
        self._offset: i64 = 0  # in the node

    def __len__(self) -> int:
        return self.length

    def __repr__(self) -> str:
        return f"ListValue({self.length} elements, {self.encoding().decode()}, {self.node_count()} nodes)"

    def type_name(self) -> bytes:
        return b"list"

    def encoding(self) -> bytes:
        return b"listpack" if self._is_listpack else b"quicklist"

    def node_count(self) -> int:
        return len(self._nodes) - self._first

    def copy(self) -> ListValue:
        other = ListValue(self.limits)
        other._nodes = [node.copy() for node in self._nodes[self._first :]]
        other.length = self.length
        other._is_listpack = self._is_listpack
        other._node_size = self._node_size
        other._node_count = self._node_count
        return other

    def memory_usage(self, samples: int) -> int:
        """Bytes held, from at least `samples` elements (0: from all of them).

        The nodes know how long their elements are; what else these take is asked of three in each. So this is
        about as quick as in redis-server, which asks its nodes alone.
        """
        total: i64 = _LIST_OVERHEAD + 8 * len(self._nodes)
        wanted: i64 = samples if samples > 0 else self.length
        seen: i64 = 0
        held: i64 = 0
        for at in range(self._first, len(self._nodes)):
            node = self._nodes[at]
            total += _NODE_OVERHEAD + 8 * len(node.items)
            if seen < wanted and node.start < len(node.items):
                held += node.elements_memory()
                seen += node.count()
        if seen > 0:
            total += held * self.length // seen if held < 1 << 31 else held // seen * self.length
        return total

    def release(self, budget: int) -> int:
        left: i64 = budget
        while left > 0 and self.length > 0:
            node = self._nodes.pop()
            count = node.count()
            self.length -= count
            left -= max(count, 1)
        if self.length == 0:
            return NOTHING_LEFT
        return self.length

    # Encodings ------------------------------------------------------------------------------------

    def before_growth(self, added_bytes: i64, added: i64) -> None:
        """Become a quicklist if so much more would be too much for a listpack.

        Args:
            added_bytes: lengths of the elements to come, together.
            added: how many they are.
        """
        if not self._is_listpack:
            return
        fill = self.limits.list_max_listpack_size
        node = self._nodes[self._first]
        if node.size + added_bytes > _size_limit(fill) or node.count() + added > _count_limit(fill):
            self._become_quicklist()
            if node.count() == 0:
                self._nodes = []
                self._first = 0

    def _become_quicklist(self) -> None:
        self._is_listpack = False
        fill = self.limits.list_max_listpack_size
        self._node_size = _size_limit(fill)
        self._node_count = min(_count_limit(fill), _LARGEST_FILL) if fill >= 0 else _NO_COUNT_LIMIT

    def after_removal(self) -> None:
        """Become a listpack if little enough is left.

        That is half of what would be allowed, so that a list does not go to and fro.
        """
        if not self._is_listpack:
            self._try_listpack(2)

    def _try_listpack(self, divisor: i64) -> None:
        if len(self._nodes) - self._first != 1:
            return
        node = self._nodes[self._first]
        if node.is_plain:
            return
        fill = self.limits.list_max_listpack_size
        if fill < 0:
            if node.size > _size_limit(fill) // divisor:
                return
        elif node.count() > _count_limit(fill) // divisor:
            return
        self._is_listpack = True

    def load(self, values: list[bytes]) -> None:
        """Fill a new list with a result of unknown size: a quicklist, until it turns out to be small."""
        self._become_quicklist()
        self._nodes = []
        self._first = 0
        for value in values:
            self.push_tail(value)
        self._try_listpack(1)

    def load_node(self, values: list[bytes], is_plain: bool, size: i64 = 0) -> None:
        """Append a node to a list being restored; `finish_loading` follows the last one.

        Args:
            values: the elements.
            is_plain: whether it is one large element alone.
            size: of its listpack; 0: not known.
        """
        if self._is_listpack:
            self._become_quicklist()
            self._nodes = []
            self._first = 0
        node = Node(values, size, is_plain)
        if is_plain:
            node.size = len(values[0])
        elif size == 0:
            node.measure()
        self._nodes.append(node)
        self.length += node.count()

    def finish_loading(self) -> None:
        if not self._is_listpack:
            self._try_listpack(1)

    def nodes(self) -> list[Node]:
        """The nodes in order; not to be changed."""
        return self._nodes[self._first :]

    # Nodes ----------------------------------------------------------------------------------------

    def _insert_node(self, at: i64, node: Node) -> None:
        """Put a node before the place `at` of _nodes. When that was the first, _first moves instead."""
        if at == self._first:
            if at == 0:
                spare: i64 = min(max(len(self._nodes), 4), _SPARE)
                self._nodes = [_NO_NODE] * spare + self._nodes
                self._first = spare
            self._first -= 1
            self._nodes[self._first] = node
        else:
            self._nodes.insert(at, node)

    def _delete_node(self, at: i64) -> None:
        first = self._first
        if at == first:
            self._nodes[at] = _NO_NODE
            first += 1
            if first == len(self._nodes):
                self._nodes = []
                first = 0
            elif first > _TOLERATED and first * 2 > len(self._nodes):
                del self._nodes[:first]
                first = 0
            self._first = first
        else:
            del self._nodes[at]

    def _has_room(self, at: i64, length: i64) -> bool:
        """Whether there is a node at that place that takes another element of that length."""
        if at < self._first or at >= len(self._nodes):
            return False
        node = self._nodes[at]
        return (
            not node.is_plain
            and not self._is_large(length)
            and node.size + length + _ENTRY_OVERHEAD <= self._node_size
            and node.count() < self._node_count
        )

    def _is_large(self, length: i64) -> bool:
        """Whether an element of that length has a node of its own."""
        threshold = self.limits.quicklist_packed_threshold
        return length >= threshold if threshold != 0 else length > self._node_size

    def nodes_size(self) -> int:
        """Bytes of all nodes, as redis-server packs them."""
        return sum([node.size for node in self._nodes[self._first :]])

    def _new_node(self, value: bytes) -> Node:
        if self._is_large(len(value)):
            return Node([value], len(value), True)
        return Node([value], _EMPTY_SIZE + entry_size(value), False)

    def _split(self, at: i64, offset: i64) -> Node:
        """Cut what is at and behind `offset` off a node; the caller puts it somewhere."""
        node = self._nodes[at]
        tail = Node(node.pack()[offset:], 0, False)
        del node.items[offset:]
        if len(tail.items) < len(node.items):
            tail.measure()
            node.size += _EMPTY_SIZE - tail.size
        else:
            whole = node.size
            node.measure()
            tail.size = whole - node.size + _EMPTY_SIZE
        return tail

    def _may_merge(self, at: i64) -> bool:
        """Whether the node at that place and the one after it fit into one."""
        if at < self._first or at + 1 >= len(self._nodes):
            return False
        one = self._nodes[at]
        other = self._nodes[at + 1]
        return (
            not one.is_plain
            and not other.is_plain
            and one.size + other.size - _EMPTY_SIZE <= self._node_size
            and one.count() + other.count() <= self._node_count
        )

    def _merge(self, at: i64) -> None:
        """Join the node at that place and the one after it."""
        one = self._nodes[at]
        other = self._nodes[at + 1]
        one.pack().extend(other.pack())
        one.size += other.size - _EMPTY_SIZE
        del self._nodes[at + 1]

    def _merge_around(self, at: i64) -> None:
        """Merge a node's neighbours with theirs where they fit, then the node with its neighbours."""
        if self._may_merge(at - 2):
            self._merge(at - 2)
            at -= 1
        if self._may_merge(at + 1):
            self._merge(at + 1)
        if self._may_merge(at - 1):
            self._merge(at - 1)
            at -= 1
        if self._may_merge(at):
            self._merge(at)

    def _seek(self, index: i64) -> None:
        """Set _at and _offset to a position of the list."""
        if index * 2 < self.length:
            at = self._first
            while True:
                count = self._nodes[at].count()
                if index < count:
                    break
                index -= count
                at += 1
            self._offset = index
        else:
            index = self.length - index  # from the end, 1 is the last
            at = len(self._nodes) - 1
            while True:
                count = self._nodes[at].count()
                if index <= count:
                    break
                index -= count
                at -= 1
            self._offset = count - index
        self._at = at

    # Ends -----------------------------------------------------------------------------------------

    def push_head(self, value: bytes) -> None:
        """Add at the head; `before_growth` has been asked."""
        if self._is_listpack or self._has_room(self._first, len(value)):
            self._nodes[self._first].push_head(value)
        else:
            self._insert_node(self._first, self._new_node(value))
        self.length += 1

    def push_tail(self, value: bytes) -> None:
        """Add at the tail; `before_growth` has been asked."""
        last: i64 = len(self._nodes) - 1
        if self._is_listpack or self._has_room(last, len(value)):
            self._nodes[last].push_tail(value)
        else:
            self._nodes.append(self._new_node(value))
        self.length += 1

    def push_arguments(self, args: list[bytes], begin: i64, at_head: bool) -> None:
        """Add the arguments of a request from `begin` on, one after the other."""
        end: i64 = len(args)
        at = begin
        if self._is_listpack:
            added: i64 = 0
            while at < end:
                added += len(args[at])
                at += 1
            self.before_growth(added, end - begin)
            at = begin
        if at_head:
            while at < end:
                self.push_head(args[at])
                at += 1
        else:
            while at < end:
                self.push_tail(args[at])
                at += 1

    def pop_head(self) -> bytes:
        """Take the first element; `after_removal` is to follow when the list stays."""
        node = self._nodes[self._first]
        value = node.pop_head()
        self.length -= 1
        if node.start == len(node.items) and not self._is_listpack:
            self._delete_node(self._first)
        return value

    def pop_tail(self) -> bytes:
        """Take the last element; `after_removal` is to follow when the list stays."""
        last: i64 = len(self._nodes) - 1
        node = self._nodes[last]
        value = node.pop_tail()
        self.length -= 1
        if node.start == len(node.items) and not self._is_listpack:
            self._delete_node(last)
        return value

    # Anywhere -------------------------------------------------------------------------------------

    def get(self, index: i64) -> bytes:
        """The element at a position within the list."""
        self._seek(index)
        node = self._nodes[self._at]
        return node.items[node.start + self._offset]

    def set(self, index: i64, value: bytes) -> None:
        """Replace the element at a position within the list; `before_growth` has been asked."""
        self._seek(index)
        at = self._at
        offset = self._offset
        node = self._nodes[at]
        large = not self._is_listpack and self._is_large(len(value))
        if not node.is_plain and not large:
            node.replace(offset, value)
            return
        if node.is_plain:
            if large:
                self._nodes[at] = self._new_node(value)
            else:
                self._insert_beside(at, offset, value, True)
                self._delete_node(self._at)
            return
        # A large element in the place of a small one: what was behind that goes to a node of its own.
        if offset != node.count() - 1:
            self._nodes.insert(at + 1, self._split(at, offset + 1))
        self._nodes.insert(at + 1, self._new_node(value))
        if node.count() == 1:
            self._delete_node(at)
        else:
            node.pop_tail()
            self._merge_around(at + 1)

    def insert(self, pivot: bytes, value: bytes, after: bool) -> bool:
        """Insert beside the first element equal to pivot; whether there is one.

        `before_growth` has been asked.
        """
        at = self._first
        end: i64 = len(self._nodes)
        while at < end:
            node = self._nodes[at]
            offset = node.find(pivot)
            if offset >= 0:
                if self._is_listpack:
                    node.pack().insert(offset + 1 if after else offset, value)
                    node.size += entry_size(value)
                else:
                    self._insert_beside(at, offset, value, after)
                self.length += 1
                return True
            at += 1
        return False

    def _insert_beside(self, at: i64, offset: i64, value: bytes, after: bool) -> None:
        """Insert into a quicklist beside the element at `offset` of a node; _at is then that node's place."""
        node = self._nodes[at]
        length: i64 = len(value)
        is_outermost = offset == node.count() - 1 if after else offset == 0
        neighbour = at + 1 if after else at - 1
        self._at = at
        if self._has_room(at, length):
            node.pack().insert(offset + 1 if after else offset, value)
            node.size += entry_size(value)
        elif is_outermost and self._has_room(neighbour, length):
            if after:
                self._nodes[neighbour].push_head(value)
            else:
                self._nodes[neighbour].push_tail(value)
        elif is_outermost:
            if after:
                self._nodes.insert(at + 1, self._new_node(value))
            else:
                self._insert_before(at, self._new_node(value))
        else:
            # In the middle of a full node: the half away from the element stays the node.
            tail = self._split(at, offset + 1 if after else offset)
            self._nodes.insert(at + 1, tail)
            if length > self._node_size:
                self._nodes.insert(at + 1, self._new_node(value))
            elif after:
                tail.push_head(value)
                self._merge_around(at)
            else:
                node.push_tail(value)
                self._merge_around(at + 1)

    def _insert_before(self, at: i64, node: Node) -> None:
        """Insert a node before that at `at`, and let _at follow the latter."""
        if at == self._first:
            self._insert_node(at, node)
            self._at = self._first + 1
        else:
            self._nodes.insert(at, node)
            self._at = at + 1

    def delete_range(self, start: i64, count: i64, discarded: ListValue | None = None) -> None:
        """Remove elements within the list; `after_removal` is to follow when the list stays.

        Args:
            start: position of the first.
            count: how many.
            discarded: takes over nodes that go as a whole, to be released without haste.
        """
        if count <= 0:
            return
        self._seek(start)
        at = self._at
        offset = self._offset
        self.length -= count
        # Whole nodes go together: each alone would move all nodes behind it.
        gone_from: i64 = -1
        gone_to: i64 = -1
        while count > 0:
            node = self._nodes[at]
            here = min(node.count() - offset, count)
            if here == node.count() and not self._is_listpack:
                if gone_from < 0:
                    gone_from = at
                gone_to = at + 1
            else:
                node.delete(offset, here)
            count -= here
            offset = 0
            at += 1
        if gone_from < 0:
            return
        if discarded is not None:
            discarded.take_over(self._nodes[gone_from:gone_to])
        if gone_from == self._first:
            while gone_from < gone_to:
                self._delete_node(self._first)
                gone_from += 1
        else:
            del self._nodes[gone_from:gone_to]

    def take_over(self, nodes: list[Node]) -> None:
        """Hold nodes that no list has any more until `release` frees them."""
        self._nodes.extend(nodes)
        for node in nodes:
            self.length += node.count()

    def remove(self, value: bytes, limit: i64, from_tail: bool) -> int:
        """Remove up to `limit` elements equal to value; how many were. `after_removal` is to follow."""
        removed: i64 = 0
        emptied = False
        end: i64 = len(self._nodes)
        step: i64 = -1 if from_tail else 1
        at = end - 1 if from_tail else self._first
        while removed < limit and self._first <= at < end:
            node = self._nodes[at]
            found = node.remove(value, limit - removed, from_tail)
            removed += found
            if found > 0 and len(node.items) == 0:
                emptied = True
            at += step
        self.length -= removed
        if emptied and not self._is_listpack:
            first = self._first
            self._nodes = [node for node in self._nodes[first:] if node.start < len(node.items)]
            self._first = 0
        return removed

    def elements(self, start: i64, stop: i64) -> list[bytes]:
        """The elements from start to stop, both within the list and stop included."""
        wanted = stop - start + 1
        self._seek(start)
        at = self._at
        node = self._nodes[at]
        begin = node.start + self._offset
        here: i64 = len(node.items) - begin
        if here >= wanted:
            return node.items[begin : begin + wanted]
        found = node.items[begin:]
        wanted -= here
        while wanted > 0:
            at += 1
            node = self._nodes[at]
            here = node.count()
            if here > wanted:
                here = wanted
                found.extend(node.items[node.start : node.start + here])
            elif node.start == 0:
                found.extend(node.items)
            else:
                found.extend(node.items[node.start :])
            wanted -= here
        return found

    def everything(self) -> list[bytes]:
        """All elements."""
        return self.elements(0, self.length - 1) if self.length > 0 else []

    def positions(self, value: bytes, skip: i64, limit: i64, scan: i64, from_tail: bool) -> list[object]:
        """Where the list has elements equal to value.

        Args:
            skip: matches to pass over first.
            limit: positions wanted at most.
            scan: elements to look at, at most.
            from_tail: begin at the tail; positions are counted from the head all the same.
        """
        found: list[object] = []
        end: i64 = len(self._nodes)
        step: i64 = -1 if from_tail else 1
        at = end - 1 if from_tail else self._first
        base: i64 = self.length if from_tail else 0
        left = min(scan, self.length)
        while left > 0 and limit > 0 and self._first <= at < end:
            node = self._nodes[at]
            items = node.items
            length: i64 = len(items)
            here = min(left, length - node.start)
            if from_tail:
                base -= length - node.start
                place = length - 1
            else:
                place = node.start
            index = base + place - node.start
            left -= here
            while here > 0:
                if items[place] == value:
                    if skip > 0:
                        skip -= 1
                    else:
                        position: int = index
                        found.append(position)
                        limit -= 1
                        if limit == 0:
                            break
                place += step
                index += step
                here -= 1
            if not from_tail:
                base += length - node.start
            at += step
        return found

    def check_invariants(self) -> None:
        """Raise AssertionError when the structure is broken. O(n): tests only."""
        total: i64 = 0
        nodes = self._nodes[self._first :]
        for node in nodes:
            assert 0 <= node.start <= len(node.items)
            total += node.count()
            if node.is_plain:
                assert node.count() == 1
                assert node.size == len(node.items[node.start])
                continue
            size: i64 = _EMPTY_SIZE
            for value in node.items[node.start :]:
                size += entry_size(value)
            assert node.size == size, "a node's size is not that of its elements"
            assert self._is_listpack or node.count() > 0, "an empty node"
        assert total == self.length
        assert not self._is_listpack or (len(nodes) == 1 and not nodes[0].is_plain)
