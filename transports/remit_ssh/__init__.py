"""Reach a computer by OpenSSH's client: ``ssh:HOST``, ``ssh://USER@HOST:PORT``, or just ``HOST``.

Whatever ``ssh HOST`` knows holds here too: ssh_config, agent, jump hosts, known_hosts.
``?config=`` is ssh's ``-F``; ``?key=`` is its ``-i``, which adds to the configuration's keys;
``?persist=`` is its ControlPersist: a connection stays so long for the next who comes, 0 for none.
"""

from __future__ import annotations

import logging
import os
import re
import shlex
import subprocess
from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial

import anyio.to_thread
import attrs

import remit
from remit.abc import ByteStream, End, Target, Transport
from remit_ssh._address import Address, parse_address
from remit_ssh._guard import Guarded, answers, unlink
from remit_ssh._hosts import hosts
from remit_ssh._quiet import is_quiet
from remit_ssh._reuse import NotReused, Reuse, find

_log = logging.getLogger("remit.ssh")

# ssh should give up before remit does: it knows why. A day is more than anybody waits.
_SHARE_OF_TIMEOUT = 0.9
_LONGEST_TIMEOUT = 86400.0
# Seconds that a connection which stands may be silent before it is asked whether it lives.
_PATIENCE = 4.0
_TIME = re.compile(r"[0-9]{1,6}[smhd]?", re.ASCII)


@attrs.frozen
class Ssh:
    """Starts the command by ``ssh``; never asks, never has a terminal."""

    program: str = "ssh"
    api: int = 1
    scheme: str = "ssh"
    bare_words: bool = True
    option_names: Collection[str] = ("config", "key", "persist")

    def check(self, target: Target) -> None:
        """Raises TargetError for an invalid target; starts nothing."""
        parse_address(target)
        for name in ("config", "key"):
            _file(target, name)
        _persist(target)

    def open(self, target: Target, argv: Sequence[str]) -> AbstractAsyncContextManager[ByteStream]:
        """Starts ``argv`` by ssh, which quotes nothing itself: the words go as one line for a
        shell. Raises TargetError and, entering, ConnectError where there is no ssh."""
        address = parse_address(target)
        timeout = min(target.connect_timeout, _LONGEST_TIMEOUT) * _SHARE_OF_TIMEOUT
        words = [self.program, "-T", "-o", "BatchMode=yes"]
        words += ["-o", f"ConnectTimeout={max(1, int(timeout))}"]
        if is_quiet(target.options.get("config")):
            words += ["-o", "LogLevel=ERROR"]  # else no failure would have a reason
        words += _way(target, address)
        _log.debug("%s", shlex.join([*words, address.host]))
        # ssh joins its arguments with spaces for the login shell over there: ssh(1).
        there = ["--", address.host, shlex.join(argv)]
        if _persist(target) == "0":
            return remit.open_process([*words, *there])
        return self._over_one(target, words, there)

    @asynccontextmanager
    async def _over_one(
        self, target: Target, words: Sequence[str], there: Sequence[str]
    ) -> AsyncGenerator[ByteStream]:
        """By a connection that was there before, or one that stays for the next."""
        look = partial(self._find, target, _persist(target))
        try:
            # It runs the programs of a Match exec.
            reuse = await anyio.to_thread.run_sync(look, abandon_on_cancel=True)
        except NotReused as exc:
            _log.info("%s: no connection is reused: %s", target, exc)
            opened: AbstractAsyncContextManager[ByteStream] = remit.open_process([*words, *there])
        else:
            if reuse.stands:
                _log.info("%s: by the connection that stands", target)
                opened = self._guarded(target, reuse, words, there)
            else:
                opened = remit.open_process([*words, *reuse.words, *there])
        async with opened as stream:
            yield stream

    def _guarded(
        self, target: Target, reuse: Reuse, words: Sequence[str], there: Sequence[str]
    ) -> Guarded:
        """By the connection that stands, and by another where that turns out to be dead."""
        patience = min(_PATIENCE, target.connect_timeout / 4)
        # A way into the host's own port that nobody listens on: whatever ssh says of that, it has
        # heard from there. Nor may it connect anew.
        probe = ["-o", "ControlMaster=no", "-o", "ProxyCommand=false", "-W", "127.0.0.1:1"]
        own = ["-o", f"ControlPath={reuse.path}"] if reuse.own else []
        alone = ["-o", "ControlMaster=no", "-o", "ControlPath=none"]

        def dead() -> None:
            _log.info("%s: the connection that stands does not answer; another is made", target)
            if reuse.own:
                unlink(reuse.path)

        return Guarded(
            [*words, *reuse.words, *there],
            [*words, *alone, *there],
            patience=patience,
            is_alive=partial(answers, [*words, *own, *probe, *there[:2]], patience),
            dead=dead,
        )

    def _find(self, target: Target, persist: str) -> Reuse:
        address = parse_address(target)
        way = _way(target, address, config=False)
        return find(self.program, way, _file(target, "config"), address.host, persist)

    def keep(self, target: Target, seconds: float) -> str:
        """Logs in on the terminal, by ``ssh -fN``. Raises ConnectError."""
        address = parse_address(target)
        reuse = self._reuse(target, str(max(1, int(seconds))))
        way = _way(target, address)
        self._control("stop", target, reuse)  # else that would be used, for as long as it stays
        words = [self.program, "-f", "-N", "-o", "ControlMaster=auto", *reuse.words, *way]
        words += ["-o", f"ConnectTimeout={max(1, int(target.connect_timeout))}"]
        # What is asked is asked on the terminal; who reads our stdout waits for nobody else.
        done = subprocess.run([*words, "--", address.host], stdout=subprocess.DEVNULL)
        if done.returncode or not reuse.stands:
            raise remit.ConnectError(
                f"{target}: ssh did not log in (status {done.returncode})",
                hint=f"`{shlex.join(['ssh', *way])} -v {address.host}` shows how far it comes",
                exit_status=done.returncode,
            )
        stay = f"{seconds:g} s after its last use" if reuse.own else "as its ssh_config says"
        return f"connected; the connection stays {stay}"

    def let_go(self, target: Target) -> bool:
        """By ``ssh -O exit``. Raises ConnectError."""
        return self._control("exit", target, self._reuse(target, "60"))

    def kept(self, target: Target) -> str:
        """By the socket of a ControlMaster, and whether one answers there."""
        persist = _persist(target)
        if persist == "0":
            return "each session has a connection of its own (persist=0)"
        try:
            reuse = self._find(target, persist)
        except NotReused as exc:
            return f"each session has a connection of its own: {exc}"
        by = "of remit's" if reuse.own else "of the account's own ssh_config"
        if self._control("check", target, reuse):
            return f"a connection {by} is open, and is used: {reuse.path}"
        return f"none is open; the next one stays open for later commands: {reuse.path}"

    def _reuse(self, target: Target, persist: str) -> Reuse:
        try:
            return self._find(target, persist)
        except NotReused as exc:
            raise remit.ConnectError(f"{target}: no connection can be kept: {exc}") from exc

    def _control(self, word: str, target: Target, reuse: Reuse) -> bool:
        """Tells the ssh that holds the connection; whether one answered."""
        if not reuse.stands:
            return False
        own = ["-o", f"ControlPath={reuse.path}"] if reuse.own else []
        way = _way(target, parse_address(target))
        words = [self.program, "-T", "-O", word, *own, *way, "--", parse_address(target).host]
        try:
            done = subprocess.run(
                words, stdin=subprocess.DEVNULL, capture_output=True, timeout=_PATIENCE
            )
        except (OSError, subprocess.TimeoutExpired):
            return False
        return done.returncode == 0

    def explain(self, target: Target, end: End) -> remit.ConnectError | None:
        """What ssh's words mean: name not found, refused, host key changed, not let in."""
        from remit_ssh._failures import explain  # its many patterns are slow to compile

        address = parse_address(target)
        return explain(target, shlex.join(["ssh", *_way(target, address)]), address.host, end)

    def addresses(self) -> Collection[str]:
        """The hosts that the account's own ssh_config names."""
        return hosts(os.path.expanduser("~/.ssh/config"))


def _persist(target: Target) -> str:
    """For how long a connection stays, as ssh writes it; ``"0"``: not at all."""
    given = target.options.get("persist")
    if given is None:
        return f"{target.persist:.0f}"
    if not _TIME.fullmatch(given):
        raise remit.TargetError(f"{target}: persist={given}: this is no time", hint="persist=10m")
    return "0" if given.rstrip("smhd").strip("0") == "" else given


def _way(target: Target, address: Address, *, config: bool = True) -> list[str]:
    """The options that lead ssh there, for us and for a person alike."""
    words = []
    if config and (config_file := _file(target, "config")):
        words += ["-F", config_file]
    if key := _file(target, "key"):
        words += ["-i", key]
    if address.port is not None:
        words += ["-p", str(address.port)]
    if address.user:
        words += ["-l", address.user]
    return words


def _file(target: Target, option: str) -> str | None:
    given = target.options.get(option)
    if given is None:
        return None
    # Made absolute: a name with a leading "-" would be an option.
    path = os.path.abspath(os.path.expanduser(given))
    if not os.path.isfile(path):
        raise remit.TargetError(f"{target}: {option}={given}: there is no such file")
    if not os.access(path, os.R_OK):
        raise remit.TargetError(f"{target}: {option}={given}: it is not readable")
    return path


@remit.hookimpl
def remit_transports() -> list[Transport]:
    """The transports that come with this plugin: the hook of that name."""
    return [Ssh()]
