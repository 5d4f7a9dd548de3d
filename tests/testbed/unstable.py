"""Python 3.14, where this machine has none: Debian unstable's, with the C library it is built for.

``python -m testbed.unstable DIRECTORY`` puts it there as pyenv puts its versions; with the
directory in REMIT_TEST_PYTHONS all tests find it. It needs root, mmdebstrap, patchelf and a
mirror of Debian.
"""

import shutil
import sys
import tempfile
from pathlib import Path

from testbed import containers, needs, run

_NAME = "python3.14"


def make(directory: Path) -> Path:
    """Returns its program, ``DIRECTORY/3.14.N/bin/python3``. One that is there is taken."""
    if made := sorted(directory.glob(f"{_NAME.removeprefix('python')}.*/bin/python3")):
        return made[-1]
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory) as unpacked:
        root = Path(unpacked, "root")
        # Its release file may be older than it says it is good for: a mirror that stands still.
        source = f"deb [check-valid-until=no] {containers.mirror()} sid main"
        argv = [needs.tool("mmdebstrap"), "--quiet", "--mode=root", "--variant=extract"]
        argv += [f"--include={_NAME},libc-bin,base-files", "--format=directory"]
        argv += ["--dpkgopt=path-exclude=/usr/share/{doc,man,locale,info}/*"]
        run.command([*argv, "sid", root, source])
        return _settled(root / "usr", directory)


def _settled(usr: Path, directory: Path) -> Path:
    """Moves it to where it stays, and has it find its own libraries and loader there."""
    said = run.command(["chroot", usr.parent, f"/usr/bin/{_NAME}", "-V"])
    home = directory / said.split()[1]
    shutil.move(usr, home)
    program = home / "bin" / _NAME
    patchelf = needs.tool("patchelf")
    loader = run.command([patchelf, "--print-interpreter", program]).strip()
    (libraries,) = [path.parent for path in (home / "lib").glob("*/libc.so.6")]
    argv = [patchelf, "--set-interpreter", f"{home}{loader}"]
    # For all that it loads, as no RUNPATH would be, and for nothing that it starts.
    run.command([*argv, "--force-rpath", "--set-rpath", libraries, program])
    link = home / "bin/python3"
    link.unlink(missing_ok=True)
    link.symlink_to(_NAME)
    run.command([link, "-c", "import ctypes, sqlite3, ssl, termios"])
    return link


if __name__ == "__main__":
    print(make(Path(sys.argv[1]).absolute()))
