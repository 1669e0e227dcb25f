"""The interpreted twin of `murmur64` in types/hyperloglog.py. Not compiled: Python's integers do not wrap."""

from __future__ import annotations

_MULTIPLIER = 0xC6A4_A793_5BD1_E995
_SEED = 0xADC8_3B19
_MASK = (1 << 64) - 1


def murmur64(data: bytes) -> int:
    h = (_SEED ^ (len(data) * _MULTIPLIER)) & _MASK
    whole = len(data) & ~7
    for at in range(0, whole, 8):
        k = (int.from_bytes(data[at : at + 8], "little") * _MULTIPLIER) & _MASK
        h ^= ((k ^ (k >> 47)) * _MULTIPLIER) & _MASK
        h = (h * _MULTIPLIER) & _MASK
    if whole < len(data):
        h = ((h ^ int.from_bytes(data[whole:], "little")) * _MULTIPLIER) & _MASK
    h = ((h ^ (h >> 47)) * _MULTIPLIER) & _MASK
    return h ^ (h >> 47)
