"""What the system tests share."""

from __future__ import annotations

import pytest

from tests.support.machine import NOBODY, why_nobody_cannot_run_python


@pytest.fixture
def nobody() -> tuple[str, ...]:
    """The words that run what follows as the user nobody."""
    reason = why_nobody_cannot_run_python()
    if reason is not None:
        pytest.skip(reason)
    return NOBODY
