"""Containers in an engine of the run's own: no registry, no network, nothing of the machine's own.

``docker`` and ``podman`` as anybody types them reach it while ``env`` is in the environment.
"""

import os
import re
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from itertools import count
from pathlib import Path

from testbed import needs, pythons, run
from testbed.pythons import Interpreter

# A container's own Python is older than what runs remit: 3.9 at most.
_NEWEST = 9
_BARE = "remit-testbed/bare"
_OLD = "remit-testbed/bullseye"
_FOR_EVER = ["sleep", "2000000000"]
_SEARCH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# Debian 11's Python 3.9 beside busybox, unpacked only: no maintainer script runs.
_SUITE, _SUITE_PYTHON = "bullseye", "3.9"
_HOOK = f"""
mkdir -p $1/tmp $1/root $1/proc $1/dev $1/etc; chmod 1777 $1/tmp
echo root:x:0:0:root:/root:/bin/sh > $1/etc/passwd
for d in bin sbin lib lib64; do [ -e $1/$d ] || [ -L $1/$d ] || ln -s usr/$d $1/$d; done
for a in $(/bin/busybox --list); do
    [ -e $1/usr/bin/$a ] || [ -e $1/bin/$a ] || ln -s /bin/busybox $1/usr/bin/$a
done
ldconfig -r $1
[ -e $1/usr/bin/python3 ] || ln -s python{_SUITE_PYTHON} $1/usr/bin/python3
"""


class Engine:
    """Containers ``python`` and ``bare`` (no Python) run, ``stopped`` ended, ``absent`` is none.

    The first process of a container is a ``sleep`` that reaps nobody, as in many a real one.
    """

    python, bare, stopped, absent = "old-python", "bare", "stopped", "no-such-container"

    def __init__(
        self, program: str, env: dict[str, str], *, interpreter: Interpreter | None, directory: Path
    ) -> None:
        """Without ``interpreter`` an image with Python 3.9 is made, which takes some 20 s."""
        self.program = program
        self.env = env
        self.python_version = interpreter.version if interpreter else _SUITE_PYTHON
        self._interpreter = interpreter
        self._serial = count(1)
        self._command("import", bare_image(directory / "bare.tar"), _BARE)
        if interpreter is None:
            self._command("import", old_image(directory.parent / "old.tar"), _OLD)
        self._run_python(self.python)
        self._command(*_run(self.bare), _BARE, *_FOR_EVER)
        # In the background: podman waits until process 1 has reaped the monitor, at most 20 s.
        self._command(*_run(self.stopped), _BARE, "true")
        run.wait_until(lambda: not self._runs(self.stopped), "a container to end")

    def kill(self, name: str) -> None:
        """KILL all of the container; it stays, stopped."""
        self._command("kill", name)

    def start(self, name: str) -> None:
        """Run a stopped container again."""
        self._command("start", name)

    def new_python(self) -> str:
        """Another container like ``python``, for a test to break. Returns its name."""
        name = f"{self.python}-{next(self._serial)}"
        self._run_python(name)
        return name

    def stop(self) -> None:
        """Kill what runs and remove all containers. The engine itself ends with the run."""
        if running := self._command("ps", "--quiet").split():
            self._command("kill", *running)
        if names := self._command("ps", "--all", "--quiet").split():
            self._command("rm", "--force", *names)

    def _run_python(self, name: str) -> None:
        if self._interpreter is None:
            self._command(*_run(name), _OLD, *_FOR_EVER)
            return
        # The same path inside, because that is where the interpreter looks for its libraries.
        home = self._interpreter.path.parents[1]
        libraries = [path for path in ("/lib", "/lib64", "/usr/lib") if Path(path).exists()]
        mounts = [f"--volume={path}:{path}:ro" for path in [*libraries, str(home)]]
        search = f"--env=PATH={home}/bin:{_SEARCH}"
        self._command(*_run(name), *mounts, search, _BARE, *_FOR_EVER)

    def _runs(self, name: str) -> bool:
        return self._command("inspect", "--format={{.State.Running}}", name).strip() == "true"

    def _command(self, *words: str | Path) -> str:
        return run.command([self.program, *words], env=self.env)


def _run(name: str) -> list[str]:
    # A sleep as process 1 heeds no TERM, and a dockerd that ends would wait for it.
    return ["run", "--detach", "--network=none", "--stop-signal=KILL", f"--name={name}"]


@contextmanager
def docker(directory: Path) -> Iterator[Engine]:
    """A dockerd of its own. Beside the machine's one, should there be one."""
    client, dockerd = needs.tool("docker"), needs.tool("dockerd")
    for tool in ("containerd", "runc", "busybox"):
        needs.tool(tool)
    directory.mkdir()
    config = directory / "config"
    config.mkdir()
    (config / "config.json").write_text("{}")  # podman reads it too, and fails without
    settings = directory / "daemon.json"
    settings.write_text("{}")
    socket = directory / "docker.sock"
    namespace = f"remit-testbed-{os.getpid()}"
    argv: list[str | Path] = [
        *(dockerd, f"--host=unix://{socket}", f"--pidfile={directory}/dockerd.pid"),
        *(f"--data-root={directory}/data", f"--exec-root={directory}/exec"),
        *(f"--containerd-namespace={namespace}", f"--containerd-plugins-namespace={namespace}-p"),
        *("--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false"),
        *("--shutdown-timeout=1", f"--config-file={settings}"),
    ]
    daemon = run.Daemon(argv, directory / "dockerd.log")
    try:
        daemon.wait_ready(socket.exists)
        env = {"DOCKER_HOST": f"unix://{socket}", "DOCKER_CONFIG": str(config)}
        engine = Engine(client, env, interpreter=_newest_old(), directory=directory)
        try:
            yield engine
        finally:
            engine.stop()
    finally:
        daemon.stop()


@contextmanager
def podman(directory: Path) -> Iterator[Engine]:
    """Podman with runc, and storage of its own."""
    client, runc = needs.tool("podman"), needs.tool("runc")
    needs.tool("busybox")
    directory.mkdir()
    containers, storage = directory / "containers.conf", directory / "storage.conf"
    containers.write_text(f"""\
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1000:1000"]
netns = "none"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"
static_dir = "{directory}/static"
tmp_dir = "{directory}/tmp"
volume_path = "{directory}/volumes"
[engine.runtimes]
runc = ["{runc}"]
""")
    storage.write_text(f"""\
[storage]
driver = "overlay"
graphroot = "{directory}/graph"
runroot = "{directory}/run"
""")
    env = {"CONTAINERS_CONF": str(containers), "CONTAINERS_STORAGE_CONF": str(storage)}
    engine = Engine(client, env, interpreter=_oldest(), directory=directory)
    try:
        yield engine
    finally:
        engine.stop()


def bare_image(path: Path) -> Path:
    """A tar of a root directory with busybox and no Python."""
    busybox = Path("/bin/busybox")
    with tarfile.open(path, "w") as tar:
        for directory, mode in (("bin", 0o755), ("etc", 0o755), ("root", 0o700), ("tmp", 0o1777)):
            entry = tarfile.TarInfo(directory)
            entry.type, entry.mode = tarfile.DIRTYPE, mode
            tar.addfile(entry)
        tar.add(busybox.resolve(), "bin/busybox")
        for applet in run.command([busybox, "--list"]).split():
            if applet != "busybox":
                entry = tarfile.TarInfo(f"bin/{applet}")
                entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
                tar.addfile(entry)
        passwd = b"root:x:0:0:root:/root:/bin/sh\n"
        entry = tarfile.TarInfo("etc/passwd")
        entry.size = len(passwd)
        tar.addfile(entry, BytesIO(passwd))
    return path


def old_image(path: Path) -> Path:
    """A tar of a root directory with Debian 11's Python, fetched from the machine's own mirror.

    One that is there already is taken as it is.
    """
    if path.exists():
        return path
    packages = f"python3-minimal,python{_SUITE_PYTHON},busybox-static,libc-bin,base-files"
    argv = [needs.tool("mmdebstrap"), "--quiet", "--mode=root", "--variant=extract"]
    argv += [f"--include={packages}", f"--extract-hook={_HOOK}"]
    argv += ["--dpkgopt=path-exclude=/usr/share/{doc,man,locale,info,perl,zoneinfo}/*"]
    run.command([*argv, _SUITE, path, mirror()])
    return path


def mirror() -> str:
    """The address of the mirror of Debian that this machine uses."""
    sources = [Path("/etc/apt/sources.list"), *Path("/etc/apt/sources.list.d").glob("*")]
    for source in sources:
        if source.is_file() and (
            found := re.search(r"^[^#\n]*?(https?://\S+/debian)/?\s", source.read_text(), re.M)
        ):
            return found[1]
    return "http://deb.debian.org/debian"


def _old_enough() -> list[Interpreter]:
    """Pyenv's, since the system's own is not in a directory of its own that could be mounted."""
    return [i for i in pythons.found() if i.path != pythons.SYSTEM and i.minor <= _NEWEST]


def _newest_old() -> Interpreter | None:
    return max(_old_enough(), key=lambda interpreter: interpreter.minor, default=None)


def _oldest() -> Interpreter | None:
    return min(_old_enough(), key=lambda interpreter: interpreter.minor, default=None)
