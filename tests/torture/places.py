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

from testbed import accounts, containers, needs, run
from testbed.containers import Engine
from testbed.link import Link
from torture.script import EVERYWHERE, SMALL

_serial = itertools.count(1)
_CLIENT = {"kill-client": 4, "stall-client": 2}
_NETWORK = {"kill-session": 4, "restart-sshd": 1, "cut": 3, "blackhole": 3, "reset": 2}


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


@contextmanager
def _corner(parent: Path, python: str, uid: int, small: bool) -> Iterator[tuple[Path, Path, Path]]:
    """An interpreter's link, a state directory and one for diaries, the account's own."""
    corner = parent / f"torture-{os.getpid()}-{next(_serial)}"
    corner.mkdir(mode=0o755)
    link, state, own = corner / "python3", corner / "state", corner / "diaries"
    link.symlink_to(python)
    for path in (state, own):
        path.mkdir(mode=0o700)
    with ExitStack() as undo:
        if small:
            options = f"size={SMALL},mode=700"
            run.command([needs.tool("mount"), "-t", "tmpfs", "-o", options, "torture", state])
            undo.callback(run.command, [needs.tool("umount"), "--lazy", state])
        for path in (state, own):
            os.chown(path, uid, -1)
        yield link, state, own
    run.command(["rm", "-rf", corner])


@contextmanager
def _here() -> Iterator[Place]:
    needs.root("a file system that fills up")
    with run.directory() as directory:

        @contextmanager
        def stage(small: bool) -> Iterator[Stage]:
            with _corner(directory, sys.executable, os.geteuid(), small) as (python, state, own):
                target = f"local:?python={python}&state={state}"
                yield Stage(target, str(python), state, own, str(own))

        yield Place("local", stage, EVERYWHERE)


@contextmanager
def _over_ssh() -> Iterator[Place]:
    needs.root("a link between network namespaces")
    for tool in ("sshd", "ssh", "ssh-keygen", "useradd", "ip", "ss", "iptables", "nsenter"):
        needs.tool(tool)
    with ExitStack() as stack:
        directory = stack.enter_context(run.directory())
        stack.enter_context(accounts.held())
        link = stack.enter_context(contextlib.closing(Link(directory / "link")))
        uid = pwd.getpwnam(accounts.ACCOUNTS["alice"][0]).pw_uid

        @contextmanager
        def stage(small: bool) -> Iterator[Stage]:
            with _corner(directory, "/usr/bin/python3", uid, small) as (python, state, own):
                target = f"ssh:alice?config={link.config}&python={python}&state={state}"
                yield Stage(target, str(python), state, own, str(own))

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
        container = engine.new_python()

        def ask(*words: str) -> str:
            return run.command([name, *words], env=engine.env).strip()

        python = ask("exec", container, "sh", "-c", "command -v python3")
        root = Path(f"/proc/{ask('inspect', '--format={{.State.Pid}}', container)}/root")

        @contextmanager
        def stage(small: bool) -> Iterator[Stage]:
            with _corner(root / "tmp", python, os.geteuid(), small) as (link, state, own):
                there = [f"/{path.relative_to(root)}" for path in (link, state, own)]
                target = f"{name}:{container}?python={there[0]}&state={there[1]}"
                yield Stage(target, there[0], state, own, there[2])

        yield Place(name, stage, {**EVERYWHERE, **_CLIENT}, can_fill=False, client=name)


PLACES: Mapping[str, Callable[[], AbstractContextManager[Place]]] = {
    "local": _here,
    "ssh": _over_ssh,
    "docker": lambda: _in_container(containers.docker, "docker"),
    "podman": lambda: _in_container(containers.podman, "podman"),
}
