"""Trials of other ways, whose figures stand in an ADR; each can be run again on another machine."""
