"""Glob patterns as KEYS, SCAN and CONFIG GET match them.

`*` any bytes, `?` any byte, `[abc]`, `[a-c]`, `[^a]` a byte in (not in) a class, `\\x` the byte x.

Source:     the behaviour of redis-server's KEYS, odd cases included: an unclosed class ends with the
            pattern, a range may be written backwards, a backslash at the very end stands for itself.
Invariants: time is O(len(pattern) * len(text)) whatever the pattern: only the latest `*` is ever gone back
            to. That is enough, as an earlier `*` could only give the later one less text to choose from.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

_STAR: Final = 42
_QUESTION: Final = 63
_OPEN: Final = 91
_CLOSE: Final = 93
_BACKSLASH: Final = 92
_CARET: Final = 94
_DASH: Final = 45


def is_literal(pattern: bytes) -> bool:
    """Whether a pattern matches itself alone."""
    return b"*" not in pattern and b"?" not in pattern and b"[" not in pattern and b"\\" not in pattern


def glob_match(pattern: bytes, text: bytes, ignore_case: bool = False) -> bool:
    """Whether the whole of `text` matches `pattern`."""
    if ignore_case:
        pattern = pattern.lower()
        text = text.lower()
    pattern_end: i64 = len(pattern)
    text_end: i64 = len(text)
    at: i64 = 0  # in the pattern
    pos: i64 = 0  # in the text
    star_at: i64 = -1  # in the pattern, behind the latest star
    star_pos: i64 = 0  # where the text that this star has not eaten begins
    while pos < text_end:
        if at < pattern_end and pattern[at] == _STAR:
            at += 1
            star_at = at
            star_pos = pos
            continue
        following: i64 = -1
        if at < pattern_end:
            following = _match_one(pattern, at, text[pos])
        if following >= 0:
            at = following
            pos += 1
        elif star_at >= 0:
            star_pos += 1
            pos = star_pos
            at = star_at
        else:
            return False
    while at < pattern_end and pattern[at] == _STAR:
        at += 1
    return at == pattern_end


def _match_one(pattern: bytes, at: i64, byte: i64) -> i64:
    """Match one byte with the pattern's element at `at`: the position behind the element, or -1."""
    end: i64 = len(pattern)
    mark: i64 = pattern[at]
    if mark == _QUESTION:
        return at + 1
    if mark == _OPEN:
        return _match_class(pattern, at + 1, byte)
    if mark == _BACKSLASH and at + 1 < end:
        at += 1
        mark = pattern[at]
    return at + 1 if mark == byte else -1


def _match_class(pattern: bytes, at: i64, byte: i64) -> i64:
    """Match one byte with a class whose `[` is before `at`: the position behind the class, or -1."""
    end: i64 = len(pattern)
    negated = at < end and pattern[at] == _CARET
    if negated:
        at += 1
    matched = False
    while at < end:
        mark: i64 = pattern[at]
        if mark == _BACKSLASH and at + 1 < end:
            at += 1
            if pattern[at] == byte:
                matched = True
        elif mark == _CLOSE:
            break
        elif at + 2 < end and pattern[at + 1] == _DASH:
            low: i64 = mark
            high: i64 = pattern[at + 2]
            if low > high:
                low, high = high, low
            at += 2
            if low <= byte <= high:
                matched = True
        elif mark == byte:
            matched = True
        at += 1
    if matched == negated:
        return -1
    return at + 1 if at < end else end
