"""What can go wrong while a topology is built. Every text is one line, ready to be shown to a person."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

# What to do about each missing thing, said in the line itself.
_REMEDIES = ("run it as root (sudo)", "give a container --cap-add {capabilities}")
_ROOTLESS = "try `redtap exec --rootless`"


def one_line(cause: BaseException | str) -> str:
    """The text of `cause` without line breaks; system errors are reduced to what the system says."""
    if isinstance(cause, OSError) and cause.strerror:
        text = cause.strerror if not cause.filename else f"{cause.strerror}: {cause.filename}"
    elif isinstance(cause, Exception) and len(cause.args) == 2 and isinstance(cause.args[0], int):
        text = str(cause.args[1])  # pyroute2's NetlinkError: (errno, text)
    else:
        text = str(cause) or type(cause).__name__
    return " ".join(text.split())


class TopologyError(Exception):
    """A step of building failed; what had been done before it was undone.

    Attributes:
        step: what was being done, e.g. `"create the namespace redtap"`.
        undone: the steps that were taken back, in the order they were taken back.
        not_undone: a sentence for each step that could not be taken back; empty when all went well.
    """

    def __init__(
        self,
        step: str,
        cause: BaseException | str,
        undone: Sequence[str] = (),
        not_undone: Sequence[str] = (),
    ) -> None:
        self.step = step
        self.cause_text = one_line(cause)
        self.undone = list(undone)
        self.not_undone = list(not_undone)
        super().__init__(step, self.cause_text)

    def __str__(self) -> str:
        text = f"cannot {self.step}: {self.cause_text}"
        if self.undone:
            text += f"; undone: {', '.join(self.undone)}"
        if self.not_undone:
            text += f"; left behind: {', '.join(self.not_undone)}"
        return text


class MissingPrivilege(TopologyError):
    """The process lacks a capability; nothing was touched."""

    def __init__(self, capabilities: Sequence[str]) -> None:
        self.capabilities = list(capabilities)
        super().__init__("build the topology", f"missing {' and '.join(capabilities)}")

    def __str__(self) -> str:
        names = " and ".join(self.capabilities)
        short = " --cap-add ".join(name.removeprefix("CAP_") for name in self.capabilities)
        remedies = [remedy.format(capabilities=short) for remedy in _REMEDIES]
        if "CAP_BPF" not in self.capabilities:  # which no user namespace gives
            remedies.append(_ROOTLESS)
        return f"missing {names}: {', '.join(remedies[:-1])}, or {remedies[-1]}"


class MissingDevice(TopologyError):
    """There is no usable /dev/net/tun; nothing was touched, or what was done has been undone."""

    def __init__(self, path: str, why: str, remedy: str) -> None:
        self.path = path
        self.why = why
        self.remedy = remedy
        super().__init__("open a TAP", f"{path}: {why}")

    def __str__(self) -> str:
        return f"{self.path}: {self.why}: {self.remedy}"


class NameInUse(TopologyError):
    """A name we were told to use belongs to somebody else, or to a Redtap that is alive."""

    def __init__(self, what: str, remedy: str) -> None:
        self.remedy = remedy
        super().__init__("build the topology", what)

    def __str__(self) -> str:
        return f"{self.cause_text}: {self.remedy}"


class RootlessUnavailable(TopologyError):
    """The system does not let this user make what `exec --rootless` needs."""

    def __init__(self, missing: Sequence[str]) -> None:
        self.missing = list(missing)
        super().__init__("go rootless", "; ".join(missing))

    def __str__(self) -> str:
        return f"rootless is not possible here: {'; '.join(self.missing)}"
