"""One test run: its directory, and the daemons that must not outlive it.

Daemons get SIGTERM from the kernel when the run is killed. What that cannot reach (containers,
mounts, network namespaces) is removed by the next run.
"""

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from testbed import processes

NAMESPACE_DIRECTORY = Path("/run/netns")
# Where control groups count processes: a hierarchy of its own, or the one for all.
CGROUPS = (Path("/sys/fs/cgroup/pids"), Path("/sys/fs/cgroup"))
_PARENT = Path("/tmp")  # not TMPDIR: accounts that sshd logs in must get at it
_OURS = re.compile(r"remit-testbed-(\d+)-.*")
COMMAND_TIMEOUT = 120.0


def command(argv: Sequence[str | Path], *, env: Mapping[str, str] | None = None) -> str:
    """Run it to its end; returns its stdout. Raises RuntimeError with its stderr if it fails."""
    done = subprocess.run(
        argv,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env={**os.environ, **(env or {})},
        timeout=COMMAND_TIMEOUT,
    )
    if done.returncode != 0:
        words = " ".join(map(str, argv))
        stderr = done.stderr.decode(errors="replace").strip()
        raise RuntimeError(f"`{words}` ended with {done.returncode}: {stderr}")
    return done.stdout.decode(errors="replace")


def wait_until(true: Callable[[], bool], what: str, timeout: float = 20.0) -> None:
    """Ask every 20 ms. Raises TimeoutError naming ``what``."""
    deadline = time.monotonic() + timeout
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout:g} s for {what}")
        time.sleep(0.02)


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Has these in ``os.environ`` meanwhile."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def directory() -> Iterator[Path]:
    """The run's own directory, readable by all accounts; the name tells the run's pid."""
    _sweep()
    path = Path(tempfile.mkdtemp(prefix=f"remit-testbed-{os.getpid()}-", dir=_PARENT))
    path.chmod(0o755)
    try:
        yield path
    finally:
        _remove(path)


class Daemon:
    """A program in the foreground, in a session of its own, which dies with the run."""

    def __init__(self, argv: Sequence[str | Path], log: Path) -> None:
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", "--", *argv],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_ready(self, ready: Callable[[], bool]) -> None:
        """Raises RuntimeError with the end of the log where it ends first."""

        def ready_or_over() -> bool:
            return self._process.poll() is not None or ready()

        wait_until(ready_or_over, f"{self._process.args!r} to be ready")
        if self._process.poll() is not None:
            end = self.log.read_text(errors="replace")[-2000:]
            raise RuntimeError(f"{self._process.args!r} ended at once: {end}")

    def stop(self, grace: float = 15.0) -> None:
        self._process.terminate()
        try:
            self._process.wait(grace)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _sweep() -> None:
    """Remove what runs left behind that were killed."""
    parents = (_PARENT, NAMESPACE_DIRECTORY, *CGROUPS)
    for place in [place for parent in parents for place in parent.glob("remit-testbed-*")]:
        match = _OURS.fullmatch(place.name)
        try:
            owner = place.lstat().st_uid
        except FileNotFoundError:
            continue  # a run that goes on beside this one has just removed it
        if match is None or place.is_symlink() or owner != os.geteuid():
            continue
        if processes.find(int(match[1])):
            continue
        if place.parent == NAMESPACE_DIRECTORY:
            subprocess.run(["ip", "netns", "del", place.name], check=False)
        elif place.parent in CGROUPS:
            with suppress(OSError):  # what it held ended with the run, or will be reaped
                place.rmdir()
        elif not any(processes.find(int(file.read_text())) for file in place.glob("*/*.pid")):
            _remove(place)


def _remove(path: Path) -> None:
    for conf in path.glob("*/containers.conf"):
        storage = str(conf.with_name("storage.conf"))
        env = os.environ | {"CONTAINERS_CONF": str(conf), "CONTAINERS_STORAGE_CONF": storage}
        subprocess.run(
            ["podman", "rm", "--all", "--force", "--time", "0"],
            env=env,
            stdout=subprocess.DEVNULL,
            check=False,
        )
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for mount in sorted((m for m in mounts if m.startswith(f"{path}/")), reverse=True):
        subprocess.run(["umount", "--lazy", mount], check=False)
    shutil.rmtree(path, ignore_errors=True)
