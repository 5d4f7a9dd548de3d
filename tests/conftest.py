"""What every test has: both event loops, and a state directory that is not the account's own."""

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# How long a test takes says nothing on a computer that is busy with others.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")

pytest_plugins = ["testbed.fixtures", "testbed.moves"]


def pytest_configure() -> None:
    # What a background job, nohup or a CI runner has us ignore is ignored by all that we start.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM, signal.SIGTSTP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The plays of the torture come first: each is long, and the last to end would be alone."""
    items.sort(key=lambda item: not item.path.match("torture/test_torture.py"))


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    """A fresh state directory, as private as remit asks for."""
    path = tmp_path / "state"
    path.mkdir(mode=0o700)
    return path


@pytest.fixture(autouse=True)
def _private_account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    # Not in tmp_path: the names of unix sockets are made under here, and hold 107 bytes at most.
    with pytest.MonkeyPatch.context() as patch:
        for name in ("REMIT_STATE_DIR", "XDG_RUNTIME_DIR"):
            path = tmp_path_factory.mktemp("own")
            path.chmod(0o700)
            patch.setenv(name, str(path))
        yield
        _end_connections(path / "remit")


def _end_connections(directory: Path) -> None:
    """Those of ssh that a test left for the next command."""
    for socket in directory.iterdir() if directory.exists() else ():
        words = ["ssh", "-o", f"ControlPath={socket}", "-O", "exit", "nowhere"]
        subprocess.run(words, capture_output=True, timeout=10.0)
