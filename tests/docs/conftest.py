"""Where the pages' commands run: a directory of their own, and the computers that they name."""

import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from docs import places
from docs.pages import ROOT, Section
from docs.world import World, remove_all_jobs
from testbed import needs
from testbed.containers import Engine

_REMOTE = re.compile("|".join([*places.HOSTS, rf"\b{places.BEHIND}\b"]))


@pytest.fixture(scope="session")
def ssh_hosts(run_directory: Path, ssh_accounts: None) -> Iterator[Path]:
    """The directory of the sshd that the pages' hosts are on; ``bin`` in it holds the ``ssh``."""
    with places.hosts(run_directory / "docs-sshd") as programs:
        yield programs.parent


@pytest.fixture(scope="session")
def docker_web(docker: Engine) -> None:
    places.container(docker)


@pytest.fixture(scope="session")
def podman_web(podman: Engine) -> None:
    places.container(podman)


@pytest.fixture
def world(
    section: Section, request: pytest.FixtureRequest, tmp_path: Path, state_dir: Path
) -> Iterator[World]:
    """Only what the section's text names is started for it."""
    if any(block.directive == "in the checkout" for block in section.blocks):
        # It would make or change the environment that others may be using.
        stamp = ROOT / ".venv" / ".installed"
        if not stamp.exists():
            needs.missing("./dev demo: the environment was not made by ./dev")
    targets = ["local:"]
    search = [str(Path(sys.executable).parent)]
    hosts = sorted(set(_REMOTE.findall(section.text)))
    if hosts:
        directory = request.getfixturevalue("ssh_hosts")
        places.clean(directory)
        search.insert(0, str(directory / "bin"))
        targets += hosts
    for engine in ("docker", "podman"):
        if re.search(rf"\b{engine}\b", section.text):
            request.getfixturevalue(f"{engine}_web")
            targets.append(f"{engine}:{places.CONTAINER}")
    env = {
        # What this run of the tests is told is not for those that a page runs.
        **{name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
        "PATH": os.pathsep.join([*search, os.environ["PATH"]]),
        "REMIT_STATE_DIR": str(state_dir),
        "COLUMNS": "200",
    }
    here = tmp_path / "here"
    here.mkdir()
    if hosts:
        shutil.copy(directory / "ssh_config", here / "my_config")
    yield World(here, env)
    for target in targets:
        remove_all_jobs(target, env)
