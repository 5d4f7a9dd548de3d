"""What the shim makes wrong is wrong for its own interpreter, and for nobody else."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from testbed import pythons, shim
from testbed.shim import Built, Shim

# The clocks, and the seconds that a write, an fsync and a rename take.
_LOOK = """
import datetime, os, sys, time
now = time.time()
assert abs(datetime.datetime.now().timestamp() - now) < 2
fd = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
at = [time.monotonic()]
for act in (
    lambda: os.write(fd, b"x"),
    lambda: os.fsync(fd),
    lambda: os.rename(sys.argv[1], sys.argv[1] + "2"),
    lambda: os.write(1, b""),
):
    act()
    at.append(time.monotonic())
print(now, at[0], *[after - before for before, after in zip(at, at[1:])])
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return shim.build(tmp_path_factory.mktemp("built") / "shim")


def _interpreters() -> list[str]:
    return [sys.executable, *(str(found.path) for found in pythons.found()[:1])]


@pytest.fixture(params=_interpreters(), ids=lambda path: Path(path).parts[-3])
def wrong(request: pytest.FixtureRequest, built: Built, tmp_path: Path) -> Shim:
    return Shim(built, tmp_path, str(request.param))


def look(python: str | Path, directory: Path) -> list[float]:
    done = subprocess.run(
        [python, "-I", "-S", "-c", _LOOK, directory / "file"], capture_output=True, check=True
    )
    return [float(word) for word in done.stdout.split()]


def test_the_wall_clock_jumps_and_the_monotonic_one_does_not(wrong: Shim, tmp_path: Path) -> None:
    for offset in (0.0, 3600.0, -100_000.0):
        wrong.jump(offset)
        wall, monotonic, *_ = look(wrong.python, tmp_path)
        assert abs(wall - time.time() - offset) < 5
        assert abs(monotonic - time.monotonic()) < 5
        wall, *_ = look(sys.executable, tmp_path)
        assert abs(wall - time.time()) < 5


def test_the_disk_is_slow_and_pipes_are_not(wrong: Shim, tmp_path: Path) -> None:
    wrong.slow_down(write=0.1, sync=0.3)
    _, _, write, sync, rename, pipe = look(wrong.python, tmp_path)
    assert write >= 0.1
    assert min(sync, rename) >= 0.3
    assert pipe < 0.1
    wrong.speed_up()
    _, _, write, sync, rename, _ = look(wrong.python, tmp_path)
    assert max(write, rename) < 0.1


def test_it_is_the_interpreter_that_it_stands_for(wrong: Shim, tmp_path: Path) -> None:
    """Its own path is the first word of the command line, and those that it becomes are hit too."""
    line = "import os, sys; print(sys.executable); sys.stdout.flush(); os.execve(sys.executable, "
    line += "[sys.executable, '-I', '-S', '-c', 'import time; print(time.time())'], {})"
    wrong.jump(-100_000.0)
    done = subprocess.run(
        [wrong.python, "-I", "-S", "-c", line], capture_output=True, check=True, text=True
    )
    executable, now = done.stdout.split()
    assert executable == str(wrong.python)
    assert abs(float(now) - time.time() + 100_000) < 5


def test_forks_fail_as_at_the_process_limit(wrong: Shim, tmp_path: Path) -> None:
    line = """
import errno, os, subprocess, sys
failed = 0
for _ in range(100):
    try:
        pid = os.fork()
    except OSError as error:
        assert error.errno == errno.EAGAIN
        failed += 1
        continue
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)
try:
    subprocess.call([sys.argv[1]])
except OSError as error:
    assert error.errno == errno.EAGAIN
    failed += 1
print(failed)
"""

    def failures() -> int:
        argv = [str(wrong.python), "-I", "-S", "-c", line, "/bin/true"]
        return int(subprocess.run(argv, capture_output=True, check=True).stdout)

    assert failures() == 0
    wrong.refuse_forks(100)
    assert failures() == 101
    wrong.refuse_forks(50)
    assert 0 < failures() < 101
    wrong.refuse_forks(0)
    assert failures() == 0


def test_musl_keeps_one_signal_more_to_itself(wrong: Shim) -> None:
    line = """
import signal
refused = []
for number in range(1, signal.NSIG):
    try:
        signal.signal(number, signal.getsignal(number) or signal.SIG_DFL)
    except (OSError, ValueError):
        refused.append(number)
known = getattr(signal, "valid_signals", lambda: set(range(1, 65)) - set(refused[2:]))()
assert set(range(1, 65)) - known == set(refused[2:])
print(*refused)
"""

    def refused() -> list[int]:
        argv = [str(wrong.python), "-I", "-S", "-c", line]
        done = subprocess.run(argv, capture_output=True, check=True)
        return [int(word) for word in done.stdout.split()]

    assert refused() == [9, 19, 32, 33]
    wrong.imitate_musl()
    assert refused() == [9, 19, 32, 33, 34]
