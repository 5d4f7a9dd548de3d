"""The places where the workflows must work: here, over ssh as an ordinary user with a noisy rc
file, and in containers with an old Python."""

from __future__ import annotations

from collections.abc import Callable

import pytest

_PLACES: dict[str, Callable[[pytest.FixtureRequest], str]] = {
    "local": lambda request: "local:",
    "ssh": lambda request: f"ssh:alice?config={request.getfixturevalue('sshd').config}",
    "docker": lambda request: f"docker:{request.getfixturevalue('docker').python}",
    "podman": lambda request: f"podman:{request.getfixturevalue('podman').python}",
}


@pytest.fixture(params=list(_PLACES))
def target(request: pytest.FixtureRequest) -> str:
    return _PLACES[str(request.param)](request)
