"""What is imported before a command does its work: an import is what a start costs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import pytest

import remit
from cli.program import LIMIT, Cli
from remit import _entry_points
from remit.cli import _help
from remit.cli._commands import COMMANDS, commands

# What costs most of all that may be imported.
HEAVY = {
    *("anyio", "asyncio", "trio", "attrs", "msgspec", "pluggy", "cloudpickle", "rich", "inspect"),
    *("importlib.metadata", "email", "json", "logging", "ssl", "subprocess", "socket", "threading"),
    *("click", "remit._plugins", "remit_local", "remit_ssh", "remit._session.session"),
}
PARSER = {"click", "inspect", "threading"}


def imported(words: Sequence[str], cli: Cli) -> set[str]:
    """The modules that are there once ``remit`` with these words has come to its end."""
    code = f"import sys; sys.argv = {['remit', *words]!r}\n" + (
        "try:\n    from remit.cli import main; main()\n"
        "finally:\n    print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path[:] = {sys.path!r}\n{code}"],
        capture_output=True,
        env=cli.env,
        cwd=cli.directory,
        timeout=LIMIT,
        check=True,
    )
    return set(done.stderr.decode().split())


@pytest.mark.parametrize("words", [["--help"], ["-h"], [], ["--version"]], ids=repr)
def test_help_waits_for_nothing(words: list[str], cli: Cli) -> None:
    assert not imported(words, cli) & HEAVY


@pytest.mark.parametrize("words", [["jobs"], *([name, "--help"] for name in COMMANDS)], ids=repr)
def test_words_wait_for_their_parser_alone(words: list[str], cli: Cli) -> None:
    assert not imported(words, cli) & (HEAVY - PARSER)


def test_a_command_draws_no_tables_and_asks_no_metadata(cli: Cli) -> None:
    found = imported(["run", "local:", "--", "true"], cli)
    assert "anyio" in found
    assert not found & {"rich", "trio", "cloudpickle", "importlib.metadata", "email"}
    # What functions and zipped packages need is for those who have them.
    assert not found & {"zipfile", "sysconfig", "remit._values.codec", "remit.cli._keeping"}
    # What the words of programs mean that failed, for whom they failed.
    assert not found & {"remit_ssh._failures", "remit_container._failures"}
    assert not [name for name in found if name.startswith("remit._shipping.")]


def test_who_uses_remit_waits_for_what_it_uses() -> None:
    code = "import remit, sys; remit.hookimpl; print({*sys.modules} & {'attrs', 'anyio', 'click'})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout == b"set()\n"


def test_all_public_names_are_there_and_listed() -> None:
    code = "from remit import *; import remit; assert {*remit.__all__} <= {*globals()}, globals()"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert set(remit.__all__) <= set(dir(remit))
    with pytest.raises(AttributeError, match="module 'remit' has no attribute 'nothing'"):
        remit.nothing  # type: ignore[attr-defined]  # noqa: B018


def test_remit_knows_its_version(cli: Cli) -> None:
    assert remit.__version__ == metadata.version("remit")
    assert cli.answer("--version") == f"remit {remit.__version__}"


def test_help_as_a_whole_says_what_the_help_of_each_command_begins_with() -> None:
    assert not [
        name
        for name, command in commands().items()
        if (COMMANDS[name][1].rstrip(".") not in " ".join((command.help or "").split()))
        or f"\n  {name} " not in _help.overview({})
    ]


# -- entry points


def _install(place: Path, directory: str, metadata: str, points: str) -> None:
    info = place / directory
    info.mkdir(parents=True)
    name = "PKG-INFO" if directory.endswith(("EGG-INFO", "egg-info")) else "METADATA"
    (info / name).write_text(metadata)
    (info / "entry_points.txt").write_text(points)


INSTALLED = {
    "one-1.0.dist-info": "[remit]\na = one\n# no\n[other]\nb = two\n",
    "A_Guest-2.0+x.dist-info": "[console_scripts]\nremit = no:no\n\n[remit]\n"
    "  c=three:x.y [big] \n",
    "none-1.dist-info": "[console_scripts]\nremit = remit.cli:main\n",
    "old.egg-info": "[remit]\nd = four\n",
    "older-1-py3.8.egg-info": "[remit]\ne = five\n",
    "eggs/x-3.0-py3.8.egg/EGG-INFO": "[remit]\nf = six\n",
}


def test_entry_points_are_found_as_importlib_finds_them(tmp_path: Path) -> None:
    for directory, points in INSTALLED.items():
        name = directory.removeprefix("eggs/").partition("-")[0].removesuffix(".egg")
        head = f"Metadata-Version: 2.1\nName: {name}\nVersion: 9\n\nName: not this\n"
        _install(tmp_path / "site", directory, head, points)
    # Of a distribution that is there twice the first counts, whatever it brings.
    _install(tmp_path / "later", "NONE-2.dist-info", "Name: none\nVersion: 2\n", "[remit]\ng = g\n")
    site, later = str(tmp_path / "site"), str(tmp_path / "later")
    path = [site, later, f"{site}/eggs/x-3.0-py3.8.egg", str(tmp_path / "missing"), site]
    theirs: dict[str, tuple[object, ...]] = {}
    seen = set()
    for dist in metadata.distributions(path=path):
        name = dist.name.replace("_", "-").lower()
        if name not in seen:
            for point in dist.entry_points.select(group="remit"):
                theirs[point.name] = (point.value, dist.name, dist.version)
        seen.add(name)
    ours = {
        point.name: (point.value, point.dist.name, point.dist.version)  # type: ignore
        for point in _entry_points.find("remit", path)
    }
    assert ours == theirs
    assert set(ours) == set("acdef")


def test_an_entry_point_is_loaded_with_what_it_names(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "loadable_point.py").write_text("class x:\n    y = 3\n")
    points = "[remit]\na = loadable_point : x.y [extra]\nb = loadable_point\n"
    _install(tmp_path, "points-1.dist-info", "Name: points\nVersion: 1\n", points)
    monkeypatch.syspath_prepend(str(tmp_path))
    value, module = (point.load() for point in _entry_points.find("remit", [str(tmp_path)]))
    assert (value, module.__name__) == (3, "loadable_point")  # type: ignore[attr-defined]
    sys.modules.pop("loadable_point")
