"""Network namespaces, TAP devices, veth pairs and bridges: declared, built, and undone to the last trace.

This package knows nothing of TCP or Redis and imports nothing of `appliance`. It hands out a file
descriptor for frames and the facts about the link behind it.

Reading order: `topology` (what can be declared), `build` (how it is made and undone), `kernel` (the only
module that touches the kernel), `ownership` (who made what, and what a dead owner left behind).
"""

from netns.build import BuiltTopology, BuiltVeth, build, build_private, build_veth
from netns.errors import MissingDevice, MissingPrivilege, NameInUse, TopologyError
from netns.tap import Tap
from netns.topology import Topology, VethTopology

__all__ = [
    "BuiltTopology",
    "BuiltVeth",
    "MissingDevice",
    "MissingPrivilege",
    "NameInUse",
    "Tap",
    "Topology",
    "TopologyError",
    "VethTopology",
    "build",
    "build_private",
    "build_veth",
]
