"""Earlier releases, each in an environment of its own, and the present one beside them."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import tarfile
import venv
from pathlib import Path

HERE = Path(__file__).parent
RELEASES = {"first": "f6e2c86"}
"""Each archive here, and its commit.

It is ``git archive --prefix=remit/ COMMIT core transports plugins``, packed by xz, so that the
tests also run from a clone without history.
"""


def install(release: str, directory: Path) -> Path:
    """Its interpreter, in a new environment in ``directory``; what remit needs is that of ours."""
    venv.create(directory, symlinks=True, with_pip=False)
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    packages = directory / "lib" / version / "site-packages"
    with tarfile.open(HERE / f"{release}.tar.xz") as archive:
        archive.extractall(directory / "source", filter="data")
    for package in (directory / "source" / "remit").glob("*/remit*"):
        package.rename(packages / package.name)
    described = packages / "remit-0.1.0.dist-info"
    described.mkdir()
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: remit\nVersion: 0.1.0\n")
    plugins = "".join(
        f"{name} = remit_{name}\n"
        for name in ("local", "ssh", "container", "command", "return", "keep")
    )
    (described / "entry_points.txt").write_text(f"[remit]\n{plugins}")
    (packages / "needed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return directory / "bin" / "python"


def as_committed(commit: str) -> bytes | None:
    """What git packs of that commit today; None: this clone does not have it."""
    git = ["git", "-C", str(HERE.parent.parent), "archive", "--prefix=remit/", commit]
    done = subprocess.run([*git, "core", "transports", "plugins"], capture_output=True)
    return None if done.returncode else done.stdout
