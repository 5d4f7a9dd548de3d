"""Where scripts are played: here, over an ssh link that can be broken, and in containers."""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import attrs

from testbed import accounts, containers, needs, run, shim
from testbed.containers import Engine
from testbed.link import Link
from testbed.shim import Built, Shim
from torture.script import EVERYWHERE, SMALL

_serial = itertools.count(1)
_CLIENT = {"kill-client": 4, "stall-client": 2}
_NETWORK = {
    "kill-session": 4,
    "stall-session": 2,
    "restart-sshd": 1,
    "cut": 3,
    "blackhole": 3,
    "reset": 2,
}


@attrs.frozen
class Stage:
    """One play's own corner of a place.

    ``state`` and ``diaries`` are directories as seen from here; ``python`` and ``diaries_there``
    are paths as seen from there.
    """

    target: str
    python: str
    state: Path
    diaries: Path
    diaries_there: str
    shim: Shim


@attrs.frozen
class Place:
    """``stage(small)`` gives a fresh corner of it, and deletes what was kept there afterwards."""

    name: str
    stage: Callable[[bool], AbstractContextManager[Stage]]
    kinds: Mapping[str, int]
    """The faults that can happen, each with how often it is to be chosen."""
    can_fill: bool = True
    client: str | None = None
    """The program that carries the link, as the system names it."""
    link: Link | None = None


@attrs.frozen
class _Corner:
    """An interpreter of its own, and the account's own directories for state and for diaries."""

    python: Path
    state: Path
    diaries: Path
    shim: Shim


@contextmanager
def _corner(parent: Path, built: Built, python: str, uid: int, small: bool) -> Iterator[_Corner]:
    corner = parent / f"torture-{os.getpid()}-{next(_serial)}"
    corner.mkdir(mode=0o755)
    state, own = corner / "state", corner / "diaries"
    wrongs = Shim(built, corner, python)
    for path in (state, own):
        path.mkdir(mode=0o700)
    with ExitStack() as undo:
        if small:
            options = f"size={SMALL},mode=700"
            run.command([needs.tool("mount"), "-t", "tmpfs", "-o", options, "torture", state])
            undo.callback(run.command, [needs.tool("umount"), "--lazy", state])
        for path in (state, own):
            os.chown(path, uid, -1)
        yield _Corner(wrongs.python, state, own, wrongs)
    run.command(["rm", "-rf", corner])


def _stage_here(begin: str, corner: _Corner) -> Stage:
    """Where the target sees the same files; ``begin`` is its name, but for two options."""
    return Stage(
        target=f"{begin}python={corner.python}&state={corner.state}",
        python=str(corner.python),
        state=corner.state,
        diaries=corner.diaries,
        diaries_there=str(corner.diaries),
        shim=corner.shim,
    )


@contextmanager
def _here() -> Iterator[Place]:
    needs.root("a file system that fills up")
    with run.directory() as directory:
        built = shim.build(directory / "shim")

        @contextmanager
        def stage(small: bool) -> Iterator[Stage]:
            with _corner(directory, built, sys.executable, os.geteuid(), small) as corner:
                yield _stage_here("local:?", corner)

        yield Place("local", stage, EVERYWHERE)


@contextmanager
def _over_ssh() -> Iterator[Place]:
    needs.root("a link between network namespaces")
    for tool in ("sshd", "ssh", "ssh-keygen", "useradd", "ip", "ss", "iptables", "nsenter"):
        needs.tool(tool)
    with ExitStack() as stack:
        directory = stack.enter_context(run.directory())
        stack.enter_context(accounts.held())
        built = shim.build(directory / "shim")
        link = stack.enter_context(contextlib.closing(Link(directory / "link")))
        uid = pwd.getpwnam(accounts.ACCOUNTS["alice"][0]).pw_uid

        @contextmanager
        def stage(small: bool) -> Iterator[Stage]:
            with _corner(directory, built, "/usr/bin/python3", uid, small) as corner:
                yield _stage_here(f"ssh:alice?config={link.config}&", corner)

        kinds = {**EVERYWHERE, **_CLIENT, **_NETWORK}
        yield Place("ssh", stage, kinds, client="ssh", link=link)


@contextmanager
def _in_container(
    start: Callable[[Path], AbstractContextManager[Engine]], name: str
) -> Iterator[Place]:
    needs.root(name)
    with ExitStack() as stack:
        directory = stack.enter_context(run.directory())
        engine = stack.enter_context(start(directory / name))
        stack.enter_context(run.environment(engine.env))
        built = shim.build(directory / "shim")
        container = engine.new_python()

        def ask(*words: str) -> str:
            return run.command([name, *words], env=engine.env).strip()

        python = ask("exec", container, "sh", "-c", "command -v python3")
        root = Path(f"/proc/{ask('inspect', '--format={{.State.Pid}}', container)}/root")

        @contextmanager
        def stage(small: bool) -> Iterator[Stage]:
            with _corner(root / "tmp", built, python, os.geteuid(), small) as corner:

                def there(path: Path) -> str:
                    return f"/{path.relative_to(root)}"

                link, state = there(corner.python), there(corner.state)
                yield Stage(
                    target=f"{name}:{container}?python={link}&state={state}",
                    python=link,
                    state=corner.state,
                    diaries=corner.diaries,
                    diaries_there=there(corner.diaries),
                    shim=corner.shim,
                )

        yield Place(name, stage, {**EVERYWHERE, **_CLIENT}, can_fill=False, client=name)


PLACES: Mapping[str, Callable[[], AbstractContextManager[Place]]] = {
    "local": _here,
    "ssh": _over_ssh,
    "docker": lambda: _in_container(containers.docker, "docker"),
    "podman": lambda: _in_container(containers.podman, "podman"),
}
