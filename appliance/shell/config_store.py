"""The file of redis.conf on disk, for CONFIG REWRITE.

Invariants: a reader sees the old content or the new one, never a part; mode and owner of the file stay.
Errors:     OSError.
"""

from __future__ import annotations

import os
import stat
import tempfile
from contextlib import suppress

__all__ = ["ConfigFileStore"]


class ConfigFileStore:
    """One file; `path` is absolute, wherever the process goes later."""

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(path)

    def read(self) -> bytes | None:
        """What it holds; None when it is gone."""
        try:
            with open(self.path, "rb") as file:
                return file.read()
        except FileNotFoundError:
            return None

    def write(self, content: bytes) -> None:
        """Put a new file in its place."""
        target = os.path.realpath(self.path)
        if os.path.isdir(target):
            raise IsADirectoryError(21, os.strerror(21), target)
        handle, name = tempfile.mkstemp(prefix=".redis.conf-", dir=os.path.dirname(target))
        try:
            with open(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            with suppress(FileNotFoundError):
                found = os.stat(target)
                os.chmod(name, stat.S_IMODE(found.st_mode))
                with suppress(PermissionError):
                    os.chown(name, found.st_uid, found.st_gid)
            os.replace(name, target)
        except BaseException:
            with suppress(OSError):
                os.unlink(name)
            raise
