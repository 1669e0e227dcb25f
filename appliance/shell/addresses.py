"""IPv4 addresses between people (dotted quads) and the core (u32)."""

from __future__ import annotations

import ipaddress

__all__ = ["format_address", "format_endpoint", "parse_address"]


def parse_address(host: str | int) -> int:
    """An IPv4 address as the core wants it (u32).

    Raises:
        ValueError: Not a dotted quad. There is no name resolution here.
    """
    return int(ipaddress.IPv4Address(host))


def format_address(address: int) -> str:
    """`"10.77.0.1"` for a u32."""
    return f"{address >> 24}.{address >> 16 & 255}.{address >> 8 & 255}.{address & 255}"


def format_endpoint(address: int, port: int) -> str:
    """`"10.77.0.1:4711"`, as CLIENT LIST shows it."""
    return f"{address >> 24}.{address >> 16 & 255}.{address >> 8 & 255}.{address & 255}:{port}"
