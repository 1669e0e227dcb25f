"""Any bytes as one printable word in double quotes: MONITOR's lines, and the values in a redis.conf.

`resp.split_arguments` reads such a word back.
"""

from __future__ import annotations

from typing import Final

_ESCAPES: Final[dict[int, bytes]] = {
    ord("\\"): b"\\\\",
    ord('"'): b'\\"',
    ord("\n"): b"\\n",
    ord("\r"): b"\\r",
    ord("\t"): b"\\t",
    ord("\a"): b"\\a",
    ord("\b"): b"\\b",
}
_QUOTED: Final[list[bytes]] = [
    _ESCAPES.get(byte, bytes([byte]) if 32 <= byte < 127 else b"\\x%02x" % byte) for byte in range(256)
]


def quote(text: bytes) -> bytes:
    """Text between double quotes, with everything that a terminal should not get escaped."""
    return b'"' + b"".join([_QUOTED[byte] for byte in text]) + b'"'
