"""Network namespaces, TAP devices, veth pairs and bridges: declared, built, and undone to the last trace.

This package knows nothing of TCP or Redis and imports nothing of `appliance`. It hands out a file
descriptor for frames and the facts about the link behind it.

Reading order: `topology` (what can be declared), `build` and `takeover` (how it is made and undone),
`undo`, `kernel` (the only module that touches the kernel), `ownership` (who made what, and what a dead owner
left behind), `rootless`, `manage`, `wire` (two ends joined by a line with
faults). Nothing is imported here: `topology` and `errors` cost nothing, the
others load pyroute2.
"""

__all__: list[str] = []
