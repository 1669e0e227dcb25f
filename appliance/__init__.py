"""Redtap: a virtual network appliance that serves Redis over a TCP stack of its own."""

from appliance._build import prefer_sources_if_asked

__all__ = ["__version__"]

__version__ = "0.1.0"

prefer_sources_if_asked()
