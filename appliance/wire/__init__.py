"""Bytes <-> values: link, network and transport headers. No state, no clock, no I/O.

Every parser here takes untrusted bytes and either returns or raises `appliance.errors.WireError`;
nothing else, whatever the bytes (held to it by `tests/fuzz`).
"""

__all__: list[str] = []
