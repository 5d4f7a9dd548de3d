"""A root directory whose only Python is Debian's python3-minimal: no json, no ctypes, no termios.

It holds the files that the packages name, copied where they are installed on this machine and
fetched from its mirror where not; beside them a C library and busybox, and nothing else.
"""

import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from testbed import needs, run

_PACKAGE = "python3-minimal"
# What may not be there: with one of these the tests would prove nothing.
ABSENT = ("_ctypes", "_json", "gettext", "json", "pty", "resource", "shlex", "termios")
_PLACES = ("dev/pts", "etc", "proc", "root", "tmp", "usr/bin", "usr/lib", "usr/lib64", "usr/sbin")
# name: device numbers
_DEVICES = {"null": (1, 3), "zero": (1, 5), "urandom": (1, 9), "tty": (5, 0)}
# Older C libraries load it for the password database; ldd does not know.
_NAMES = "lib/*/libnss_files.so.2"


class Minimal:
    """``root`` is the directory, ``version`` its Python's ("3.11"), and ``target`` leads there.

    ``python`` is a program of this machine that runs that Python.
    """

    def __init__(self, root: Path, chroot: str, version: str) -> None:
        self.root = root
        self.version = version
        self.chroot = [chroot, str(root)]
        self.python = root.with_name("python3")
        self.python.write_text(f'#!/bin/sh\nexec {chroot} {root} python3 "$@"\n')
        self.python.chmod(0o755)

    @property
    def target(self) -> str:
        return f"command:{' '.join(self.chroot)}"


@contextmanager
def held(directory: Path) -> Iterator[Minimal]:
    """Makes it in ``directory``. Raises RuntimeError where it is not what it should be."""
    chroot, busybox = needs.tool("chroot"), Path(needs.tool("busybox"))
    for tool in ("dpkg-query", "ldd", "mount", "umount"):
        needs.tool(tool)
    root = directory / "root"
    for place in _PLACES:
        (root / place).mkdir(parents=True)
    for name in ("bin", "lib", "lib64", "sbin"):
        (root / name).symlink_to(f"usr/{name}")
    version = _put_python(root, directory / "fetched")
    _put_busybox(root, busybox)
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    with _furnished(root):
        minimal = Minimal(root, chroot, version)
        _check(minimal)
        yield minimal


def _put_python(root: Path, fetched: Path) -> str:
    """Returns its version."""
    query = ["dpkg-query", "--show", "--showformat=${db:Status-Status} ${Package}\\n"]
    installed = run.command([*query, "*python3*minimal*"])
    found: list[str] = re.findall(r"^installed libpython(3\.\d+)-minimal$", installed, re.M)
    if found:
        version = max(found, key=lambda text: int(text.split(".")[1]))
        for package in (f"python{version}-minimal", f"libpython{version}-minimal"):
            for line in run.command(["dpkg-query", "--listfiles", package]).splitlines():
                _copy(Path(line), root)
    else:
        version = _fetch(root, fetched)
    program = root / f"usr/bin/python{version}"
    for library in re.findall(r"(/\S+) \(0x", run.command(["ldd", program])):
        _copy(Path(library), root)
    for path in Path("/").glob(_NAMES):
        _copy(path, root)
    (root / "usr/bin/python3").symlink_to(program.name)
    return version


def _fetch(root: Path, fetched: Path) -> str:
    apt_get = needs.tool("apt-get")
    named = re.search(r"\bpython(3\.\d+)-minimal", run.command(["apt-cache", "depends", _PACKAGE]))
    if named is None:
        needs.missing(f"no package {_PACKAGE} is known")
    fetched.mkdir()
    for package in (f"python{named[1]}-minimal", f"libpython{named[1]}-minimal"):
        argv = ["sh", "-c", 'cd "$1" && exec "$2" -qq download "$3"', "sh"]
        run.command([*argv, fetched, apt_get, package])
    for archive in fetched.glob("*.deb"):
        run.command(["dpkg-deb", "--extract", archive, root])
    return str(named[1])


def _copy(path: Path, root: Path) -> None:
    """Into the same place under ``root``; a link's target rather than the link."""
    if path.is_file() and "/usr/share/" not in str(path):
        copy = root / path.relative_to("/")
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, copy)


def _put_busybox(root: Path, busybox: Path) -> None:
    shutil.copy2(busybox, root / "usr/bin/busybox")
    for applet in run.command([busybox, "--list"]).split():
        if not (root / "usr/bin" / applet).exists():
            (root / "usr/bin" / applet).symlink_to("busybox")


@contextmanager
def _furnished(root: Path) -> Iterator[None]:
    """Has /proc and /dev there. Of their own, so that no removal reaches the machine's."""
    for name, numbers in _DEVICES.items():
        os.mknod(root / "dev" / name, stat.S_IFCHR | 0o666, os.makedev(*numbers))
        (root / "dev" / name).chmod(0o666)
    (root / "dev/ptmx").symlink_to("pts/ptmx")
    places = {"proc": [], "devpts": ["-o", "newinstance,ptmxmode=0666,mode=0620"]}
    mounted = []
    try:
        for kind, options in places.items():
            place = root / {"devpts": "dev/pts"}.get(kind, kind)
            run.command(["mount", "-t", kind, *options, kind, place])
            mounted.append(place)
        yield
    finally:
        for place in mounted:
            run.command(["umount", "--lazy", place])


def _check(minimal: Minimal) -> None:
    words = " ".join(ABSENT)
    line = (
        "import importlib.util as u, sys; "
        f"print(*[n for n in '{words}'.split() if u.find_spec(n)], "
        "'%d.%d' % sys.version_info[:2])"
    )
    said = run.command([*minimal.chroot, "python3", "-I", "-S", "-c", line]).split()
    if said != [minimal.version]:
        raise RuntimeError(f"the minimal root has {said}, not Python {minimal.version} alone")
