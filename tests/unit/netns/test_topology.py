"""Topologies are refused before anything is touched."""

from __future__ import annotations

from typing import Any

import pytest

from netns.topology import TakeoverTopology, Topology, VethTopology

GOOD = {"namespace": "a", "tap": "t", "client_address": "10.0.0.1/24"}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"namespace": ""}, "'' is not a namespace name"),
        ({"namespace": ".."}, "'..' is not a namespace name"),
        ({"namespace": "a/b"}, "'a/b' is not a namespace name"),
        ({"namespace": "x" * 65}, "is not a namespace name; takes 1 to 64"),
        ({"tap": "sixteencharacter"}, "is not a link name; takes 1 to 15"),
        ({"tap": "a b"}, "'a b' is not a link name"),
        ({"client_address": "10.0.0.1"}, "'10.0.0.1' has no prefix length"),
        ({"client_address": "fd00::1/64"}, "is not an IPv4 address"),
        ({"client_address": "10.0.0.256/24"}, "is not an IPv4 address"),
        ({"client_address": "10.0.0.0/24"}, "is the address of a network"),
        ({"client_address": "10.0.0.255/24"}, "is the address of a network"),
        ({"client_address": "10.0.0.1/31"}, "leaves no room for two ends"),
        ({"client_address": "224.0.0.5/24"}, "is not the address of one host"),
        ({"mtu": 575}, "575 is not an MTU; takes 576 to 65521"),
        ({"mtu": 65522}, "65522 is not an MTU"),
        ({"vnet_header": False}, "offloads need the virtio-net header"),
        ({"client_mac": b"\x01\0\0\0\0\1"}, "is not the MAC of one station"),
        ({"client_mac": b"\0\0\0\0\0\0"}, "is not the MAC of one station"),
        ({"client_mac": b"\2\0\0"}, "is not the MAC of one station"),
        ({"queue_length": 0}, "0 is not a queue length"),
    ],
)
def test_topology_wrong_value_is_refused_in_one_line(change: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError) as caught:
        Topology(**{**GOOD, **change})
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_topology_good_values_are_kept() -> None:
    topology = Topology(**GOOD, mtu=576, client_mac=b"\2\0\0\0\0\1")
    assert (topology.mtu, topology.vnet_header, topology.offloads) == (576, True, True)


def test_veth_topology_one_namespace_for_both_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot be both"):
        VethTopology("a", "a")


def test_veth_topology_addresses_of_two_networks_are_refused() -> None:
    with pytest.raises(ValueError, match="not in one network"):
        VethTopology("a", "b", client_address="10.0.0.1/24", server_address="10.0.1.2/24")


def test_veth_topology_one_address_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot be at both ends"):
        VethTopology("a", "b", client_address="10.0.0.1/24", server_address="10.0.0.1/24")


def test_takeover_topology_needs_three_names() -> None:
    with pytest.raises(ValueError, match="must be three names"):
        TakeoverTopology("eth0", tap="eth0")
