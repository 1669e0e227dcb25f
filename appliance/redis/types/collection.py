"""What all values but strings have in common, and the sizes at which their encodings change.

Source:     the encodings and their thresholds are those of redis-server (OBJECT ENCODING, CONFIG GET).
Invariants: a collection belongs to one key: COPY makes a new one. An empty one does not stay in the keyspace.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

NOTHING_LEFT: Final = 0


class EncodingLimits:
    """When a small collection becomes a big one; one object per engine, kept in step with CONFIG SET.

    Each attribute is the configuration parameter of the same name, with hyphens.
    """

    def __init__(self) -> None:
        self.hash_max_listpack_entries: i64 = 512
        self.hash_max_listpack_value: i64 = 64
        self.list_max_listpack_size: i64 = -2
        self.list_compress_depth: i64 = 0
        # DEBUG QUICKLIST-PACKED-THRESHOLD: from which size on an element of a list has a node of its own; 0:
        # when it is larger than a node.
        self.quicklist_packed_threshold: i64 = 0
        self.set_max_intset_entries: i64 = 512
        self.set_max_listpack_entries: i64 = 128
        self.set_max_listpack_value: i64 = 64
        self.zset_max_listpack_entries: i64 = 128
        self.zset_max_listpack_value: i64 = 64
        self.hll_sparse_max_bytes: i64 = 3000
        self.stream_node_max_bytes: i64 = 4096
        self.stream_node_max_entries: i64 = 100
        self.hash_secret: bytes = b"not drawn"  # keys the hash of big collections; the engine draws it


class ElementWalk:
    """Who goes through a collection a piece at a time, and wants to know of what changes meanwhile."""

    def __init__(self) -> None:
        self.is_let_go = False  # the key is gone: to be released when the walk is over, and not before

    def changing(self, name: bytes) -> None:
        """An element is about to change, to come or to go."""

    def gone(self, name: bytes) -> None:
        """A member of a set has gone."""

    def changing_node(self, node: object) -> None:
        """A node of a stream is about to change."""


class Collection:
    """A value that commands change in place."""

    def __init__(self, limits: EncodingLimits) -> None:
        self.limits = limits
        self.walk: ElementWalk | None = None

    def __len__(self) -> int:
        """Number of elements (fields, members, entries)."""
        raise NotImplementedError

    def type_name(self) -> bytes:
        """What TYPE says."""
        raise NotImplementedError

    def encoding(self) -> bytes:
        """What OBJECT ENCODING says."""
        raise NotImplementedError

    def copy(self) -> Collection:
        """An equal value for another key."""
        raise NotImplementedError

    def memory_usage(self, samples: int) -> int:
        """Bytes held, from `samples` elements chosen along the value (0: from all of them)."""
        raise NotImplementedError

    def release(self, budget: int) -> int:
        """Let go of up to about `budget` elements of a value whose key is gone.

        A value of millions of elements freed in one go would stall every other client; the engine calls this
        from its housekeeping until it says that nothing is left.

        Returns:
            Elements left (NOTHING_LEFT: done; the value is then small enough to be dropped whole).
        """
        raise NotImplementedError


class MemberCollection(Collection):
    """A collection whose elements are known by a name: fields, members."""

    def remove(self, name: bytes) -> bool:
        """Take an element out; whether it was there."""
        raise NotImplementedError
