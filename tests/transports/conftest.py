"""What the tests of transports have beside the kit's own classes."""

import pytest

from remit import _process
from remit.testing import stub_tool

__all__ = ["stub_tool"]


@pytest.fixture(autouse=True)
def _short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    # Each test that leaves a program which stays would wait for the whole of it.
    monkeypatch.setattr(_process, "GRACE", 0.5)
