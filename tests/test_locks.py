"""What a clone installs: versions that pyproject.toml allows, each with its hashes."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
NEEDED = [*PROJECT["project"]["dependencies"], *PROJECT["build-system"]["requires"]]
WANTED = {
    "remit": NEEDED,
    "dev": [*NEEDED, *PROJECT["project"]["optional-dependencies"]["dev"]],
}
_PIN = re.compile(r"^(?P<name>[a-z0-9-]+)==(?P<version>\S+)(?P<rest>.*)$", re.M)


def pins(lock: str) -> list[tuple[str, str]]:
    """A package may be there twice, for different Pythons."""
    text = (ROOT / f"locks/{lock}.txt").read_text()
    return [(match["name"], match["version"]) for match in _PIN.finditer(text)]


@pytest.mark.parametrize("lock", WANTED)
def test_a_lock_holds_what_the_project_asks_for(lock: str) -> None:
    for requirement in map(Requirement, WANTED[lock]):
        versions = [version for name, version in pins(lock) if name == requirement.name]
        assert versions, f"{requirement} is not in it: nox -s lock"
        for version in versions:
            assert version in requirement.specifier, f"nox -s lock: {requirement}, not {version}"


@pytest.mark.parametrize("lock", WANTED)
def test_everything_in_a_lock_has_hashes(lock: str) -> None:
    text = (ROOT / f"locks/{lock}.txt").read_text()
    for line in filter(_PIN.match, text.splitlines()):
        name = line.split()[0]
        assert text.split(line)[1].lstrip().startswith("--hash=sha256:"), name


def test_the_tools_are_locked_beside_the_remit_that_users_get() -> None:
    assert set(pins("remit")) <= set(pins("dev"))
