"""Every exception that Redtap raises on purpose.

One tree, so that a caller can catch `ApplianceError` and know that anything else is a bug.
Dropping a packet is not in it: that is an outcome, counted by reason, never an exception.
"""


class ApplianceError(Exception):
    """Root of all errors raised on purpose."""


class WireError(ApplianceError):
    """Bytes from the network do not have the form their protocol asks for: count, drop, go on."""


class LocalProtocolError(ApplianceError):
    """The caller broke the rules of an interface of ours (sent after close, listened twice …)."""


class ConnectionFailed(ApplianceError):
    """A TCP connection ended otherwise than by FIN from both sides."""


class Reset(ConnectionFailed):
    """The peer sent an acceptable RST."""


class TimedOut(ConnectionFailed):
    """The peer stopped answering: R2 of RFC 9293 §3.8.3, the user timeout, or keep-alive ran out."""


class Refused(ConnectionFailed):
    """An active open was answered by RST."""


class Unreachable(ConnectionFailed):
    """The network reported, or ARP found, that the peer cannot be reached."""


class ConfigError(ApplianceError):
    """An option or a configuration value is wrong; the text is one line naming it and what it takes."""


class HostError(ApplianceError):
    """This host lacks a privilege, a device or a program; the text is one line: what, and how to get it."""
