"""Findings about links, against a kernel of dictionaries."""

from __future__ import annotations

import os

import pytest

from netns import doctor
from netns.doctor import examine
from netns.errors import MissingDevice
from tests.support.fake_kernel import FakeKernel


@pytest.fixture(autouse=True)
def rootless(monkeypatch: pytest.MonkeyPatch) -> None:
    # It forks, and asks the machine it runs on.
    monkeypatch.setattr(doctor, "why_not_rootless", lambda **_: ["user namespaces are off"])


def test_machine_that_allows_everything() -> None:
    kernel = FakeKernel()
    kernel.add(None, "mine", "tun")
    before = kernel.picture()
    descriptors = len(os.listdir("/proc/self/fd"))
    found = {finding.link: finding for finding in examine(kernel)}
    assert [link for link, finding in found.items() if not finding.is_usable] == ["exec --rootless"]
    assert found["exec --rootless"].text == "rootless is not possible here: user namespaces are off"
    assert found["tap:NAME, tun:NAME"].text == "there is mine; use it with --address"
    assert kernel.picture() == before
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_persistent_device_of_another_user_is_none() -> None:
    kernel = FakeKernel()
    kernel.add(None, "theirs", "tun")["is_for_us"] = False
    kernel.add(None, "br0", "bridge")
    found = {finding.link: finding for finding in examine(kernel)}["tap:NAME, tun:NAME"]
    user = os.geteuid()
    assert (found.is_usable, found.text) == (
        False,
        f"there is none for user {user}; make it as root: ip tuntap add dev NAME mode tap user {user}",
    )


def test_user_without_anything_is_told_what_is_missing() -> None:
    kernel = FakeKernel(missing=["CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_SYS_ADMIN", "CAP_BPF"])
    kernel.device = MissingDevice("/dev/net/tun", "missing", "modprobe tun")
    found = examine(kernel)
    assert not any(finding.is_usable for finding in found)
    texts = {finding.link: finding.text for finding in found}
    assert texts["tap"] == "/dev/net/tun: missing: modprobe tun"
    assert texts["packet"].startswith(
        "missing CAP_NET_RAW: run it as root (sudo), give a container --cap-add"
    )
    assert texts["xdp"].startswith("missing CAP_NET_ADMIN and CAP_NET_RAW and CAP_BPF: ")
    assert "rootless" in texts["packet"]
    assert "rootless" not in texts["xdp"]  # it would not help
    assert not any("\n" in text for text in texts.values())


def test_container_may_take_over_and_use_what_is_there() -> None:
    kernel = FakeKernel(missing=["CAP_SYS_ADMIN", "CAP_BPF"])
    texts = {finding.link: (finding.is_usable, finding.text) for finding in examine(kernel)}
    assert texts["tap"] == (True, "only with --takeover LINK: a namespace would need CAP_SYS_ADMIN")
    assert texts["packet"][0]
    assert "packet:LINK" in texts["packet"][1]
    assert texts["tun"][0] is False
    assert texts["xdp"][1].startswith("missing CAP_BPF")


def test_kernel_that_refuses_is_quoted() -> None:
    found = {finding.link: finding for finding in examine(FakeKernel(fail_at="open_xdp"))}
    assert (found["xdp"].is_usable, found["xdp"].text) == (False, "Operation not permitted")
    assert found["packet"].is_usable


def test_rootless_without_the_device_has_packet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "why_not_rootless", lambda needs_device=True: ["tun"] if needs_device else [])
    found = {finding.link: finding for finding in examine(FakeKernel())}["exec --rootless"]
    assert (found.is_usable, found.text) == (True, "with packet only: /dev/net/tun may not be opened")
