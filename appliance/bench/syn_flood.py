"""A flood of forged SYNs out of an interface of this namespace.

    python -m appliance.bench.syn_flood --interface redtap0 --target 10.77.0.2 --port 6379 --rate 20000 ...

Sources are all other hosts of the target's /24, ports and sequence numbers are random by seed. Prints
`ready`, waits for a line on standard input, floods until a second line, the end of input or --seconds, and
prints how many frames the link took in how many seconds. For a namespace of one's own: it sends to nothing
but the interface it is told.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import random
import select
import socket
import struct
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["forged_syns", "main"]

_DISTINCT: Final = 40_000
_SLICE_S: Final = 0.005
_ETHERNET_BYTES: Final = 14
_SIOCGIFHWADDR: Final = 0x8927  # linux/sockios.h
_ARPHRD_ETHER: Final = 1  # linux/if_arp.h
_SYN: Final = 0x02
# MSS 1460, SACK permitted, timestamps, window scale 7: what Linux sends.
_OPTIONS_BEFORE_TS: Final = b"\x02\x04\x05\xb4\x04\x02\x08\x0a"
_OPTIONS_AFTER_TS: Final = b"\0\0\0\0\x01\x03\x03\x07"


def _sum(data: bytes) -> int:
    return sum(struct.unpack(f"!{len(data) // 2}H", data))


def _fold(total: int) -> int:
    total = (total & 0xFFFF) + (total >> 16)
    return ((total & 0xFFFF) + (total >> 16)) ^ 0xFFFF


def forged_syns(target: str, port: int, mac: bytes, count: int, seed: int) -> list[bytes]:
    """`count` Ethernet frames, each with a SYN to `target` from somebody else of its /24."""
    chance = random.Random(seed)
    to = socket.inet_aton(target)
    frames = []
    for _ in range(count):
        host = chance.randrange(3, 255)
        source = to[:3] + bytes((host if host != to[3] else 255 - host,))
        options = _OPTIONS_BEFORE_TS + chance.randbytes(4) + _OPTIONS_AFTER_TS
        ports = chance.randrange(1024, 65536), port
        head = struct.pack("!HHIIBBH", *ports, chance.getrandbits(32), 0, 0xA0, _SYN, 64240)
        segment = head + b"\0\0\0\0" + options
        check = _fold(_sum(segment) + _sum(source + to) + 6 + len(segment))
        segment = head + struct.pack("!HH", check, 0) + options
        ip = struct.pack("!BBHHHBB", 0x45, 0, 20 + len(segment), chance.getrandbits(16), 0x4000, 64, 6)
        ip += struct.pack("!H", _fold(_sum(ip) + _sum(source + to))) + source + to
        frames.append(mac + b"\x02\0" + source + b"\x08\0" + ip + segment)
    return frames


def find_mac(target: str) -> bytes:
    """The MAC that the kernel knows `target` by; it is asked for when it does not yet.

    Raises:
        OSError: nobody answers.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.sendto(b"", (target, 9))
    for _ in range(100):
        for line in Path("/proc/self/net/arp").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[0] == target and fields[3] != "00:00:00:00:00:00":
                return bytes.fromhex(fields[3].replace(":", ""))
        time.sleep(0.02)
    raise OSError(f"no answer to ARP from {target}")


def has_ethernet(interface: str) -> bool:
    """Whether frames on it begin with an Ethernet header; on a TUN they do not."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = struct.pack("16s24x", interface.encode())
        answer = fcntl.ioctl(sock, _SIOCGIFHWADDR, request)
    return int.from_bytes(answer[16:18], sys.byteorder) == _ARPHRD_ETHER


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m appliance.bench.syn_flood", description=__doc__)
    parser.add_argument("--interface", required=True)
    parser.add_argument("--target", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--rate", type=int, required=True, help="SYNs per second")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    is_ethernet = has_ethernet(options.interface)
    mac = find_mac(options.target) if is_ethernet else bytes(6)
    frames = forged_syns(options.target, options.port, mac, _DISTINCT, options.seed)
    if not is_ethernet:
        frames = [frame[_ETHERNET_BYTES:] for frame in frames]
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as link:
        link.bind((options.interface, 0))
        link.setblocking(False)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        os.read(0, 1)
        began = time.monotonic()
        tried = taken = 0
        while (elapsed := time.monotonic() - began) < options.seconds:
            wanted = int(elapsed * options.rate)
            # When the machine gave us no time, the frames of that time are not sent in one burst later.
            tried = max(tried, wanted - int(options.rate * 4 * _SLICE_S))
            while tried < wanted:
                tried += 1
                try:
                    link.send(frames[tried % _DISTINCT])
                except OSError:
                    continue  # its queue is full
                taken += 1
            if select.select([0], [], [], _SLICE_S)[0]:
                break
        sys.stdout.write(f"{taken} {time.monotonic() - began:.3f}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
