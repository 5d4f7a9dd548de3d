"""Where scripts are played: here, over an ssh link that can be broken, and in containers."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import pwd
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import attrs

from testbed import accounts, containers, needs, run, shim
from testbed.containers import Engine
from testbed.link import Link
from testbed.namespace import Bystanders, pid_namespace
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
    bystanders: Bystanders
    """Who is there, too, and has nothing to do with the play."""


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
    popen: Callable[..., subprocess.Popen[bytes]] = subprocess.Popen
    """Starts the caller where it belongs."""


@attrs.frozen
class _Ground:
    """Where corners are made: ``root`` is the root directory there as seen from here, ``parent``
    a directory as seen from there, and ``enter`` begins a command that sees the same files."""

    root: Path
    parent: Path
    built: Built
    python: str
    uid: int
    enter: Sequence[str]
    bystanders: Callable[[], Bystanders]

    def here(self, path: Path) -> Path:
        return self.root / path.relative_to("/")

    @contextmanager
    def stage(self, target: str, small: bool) -> Iterator[Stage]:
        """``target`` is its name, but for the end of its options."""
        corner = self.parent / f"torture-{os.getpid()}-{next(_serial)}"
        state, diaries = corner / "state", corner / "diaries"
        self.here(corner).mkdir(mode=0o755)
        shim = Shim(self.built, self.here(corner), self.python)
        for path in (state, diaries):
            self.here(path).mkdir(mode=0o700)
        with ExitStack() as undo:
            if small:
                options = f"size={SMALL},mode=700"
                mount = [needs.tool("mount"), "-t", "tmpfs", "-o", options, "torture", str(state)]
                run.command([*self.enter, *mount])
                undo.callback(run.command, [*self.enter, needs.tool("umount"), "--lazy", state])
            for path in (state, diaries):
                os.chown(self.here(path), self.uid, -1)
            bystanders = self.bystanders()
            undo.callback(bystanders.dismiss)
            for _ in range(2):
                bystanders.bystander()
            yield Stage(
                target=f"{target}python={corner}/{shim.python.name}&state={state}",
                python=f"{corner}/{shim.python.name}",
                state=self.here(state),
                diaries=self.here(diaries),
                diaries_there=str(diaries),
                shim=shim,
                bystanders=bystanders,
            )
        run.command(["rm", "-rf", self.here(corner)])


@contextmanager
def _here() -> Iterator[Place]:
    """In a pid namespace, the caller too."""
    needs.root("a file system that fills up")
    with ExitStack() as stack:
        directory = stack.enter_context(run.directory())
        namespace = stack.enter_context(pid_namespace(directory / "namespace.log"))
        ground = _Ground(
            root=Path(f"/proc/{namespace.first}/root"),
            parent=directory,
            built=shim.build(directory / "shim"),
            python=sys.executable,
            uid=os.geteuid(),
            enter=namespace.enter,
            bystanders=lambda: Bystanders(namespace.first),
        )
        stage = functools.partial(ground.stage, "local:?")
        yield Place("local", stage, EVERYWHERE, popen=namespace.popen)


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
        ground = _Ground(
            root=Path("/"),
            parent=directory,
            built=shim.build(directory / "shim"),
            python="/usr/bin/python3",
            uid=uid,
            enter=(),
            bystanders=lambda: Bystanders(os.getpid(), mounts=False, uid=uid),
        )
        stage = functools.partial(ground.stage, f"ssh:alice?config={link.config}&")
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

        first = int(ask("inspect", "--format={{.State.Pid}}", container))
        ground = _Ground(
            root=Path(f"/proc/{first}/root"),
            parent=Path("/tmp"),
            built=shim.build(directory / "shim"),
            python=ask("exec", container, "sh", "-c", "command -v python3"),
            uid=os.geteuid(),
            enter=(),
            # A container has no program of ours: they see our files, and its processes.
            bystanders=lambda: Bystanders(first, mounts=False),
        )
        stage = functools.partial(ground.stage, f"{name}:{container}?")
        yield Place(name, stage, {**EVERYWHERE, **_CLIENT}, can_fill=False, client=name)


PLACES: Mapping[str, Callable[[], AbstractContextManager[Place]]] = {
    "local": _here,
    "ssh": _over_ssh,
    "docker": lambda: _in_container(containers.docker, "docker"),
    "podman": lambda: _in_container(containers.podman, "podman"),
}
