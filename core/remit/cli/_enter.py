"""``remit enter``: the user's own terminal, on another computer."""

from __future__ import annotations

import errno
import os
import signal
from collections import deque
from collections.abc import Callable
from contextlib import suppress

import anyio
import msgspec

from remit import JobState, Outcome, RemitError, Session
from remit._decoding import decode
from remit._link.channel import Channel, Parcel
from remit._link.link import Link
from remit._link.listener import Listener
from remit._link.notify import Notifier
from remit._wire.conversation import Piece
from remit.cli import _connecting, _endings, _interrupts, _rawmode
from remit.cli._descriptor import Descriptor
from remit.cli._report import BROKEN_PIPE, LINK, report, say, write_all
from remit.cli._screen_modes import Escapes, Modes

# Little enough that Ctrl-C stops a flood soon: what is under way is shown all the same.
_WINDOW = 1 << 17
_TERMINAL_GONE = 128 + signal.SIGHUP
_END_OF_INPUT = b"\x04"  # Ctrl-D
_END_AGAIN = 1.0
# Reads of the terminal that wait for a link that takes nothing.
_TYPED_AHEAD = 1000
# What would end us with the terminal as the program there has it.
_ENDINGS = (
    *(signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT),
    *(signal.SIGALRM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU, signal.SIGVTALRM),
)


class _Entered(msgspec.Struct, kw_only=True):
    prompt: str = ""
    problem: str | None = None


class _End(msgspec.Struct, kw_only=True):
    exit_status: int | None = None
    signal: str | None = None
    left_behind: list[str] = []


async def enter(target: str, *, command: list[str] | None = None) -> int:
    """Opens a terminal on ``target``, with the account's shell (or ``command``) in it; returns
    its exit status, 128 and the number for a signal.

    LINK where the link was lost, after the local terminal was put back. Raises TargetError and
    ConnectError before anything was changed.
    """
    async with _connecting.connect(target, reconnect=0) as session:
        try:
            screen = await _open(session, command)
        except RemitError as exc:
            if type(exc) is not RemitError:
                raise
            report(exc)  # there is no such program
            return _endings.NOT_STARTED
        if screen.problem:
            say(f"remit: {screen.problem}")
        with _rawmode.raw(0) as make_raw:
            status = await _converse(screen, make_raw)
        if screen.left:
            session._life.abandon()  # a link that hangs lets nobody say goodbye
            say(f"remit: {session.location} was left; what runs in the terminal there is ended")
            return status
        if screen.error is not None:
            return _tell(screen.error)
        if screen.end is not None and screen.end.left_behind:
            say(f"remit: {session.location}: left running: {', '.join(screen.end.left_behind)}")
        return status


async def _open(session: Session, command: list[str] | None) -> _Screen:
    rows, columns = _rawmode.size()
    arguments = {
        "rows": rows,
        "columns": columns,
        "term": os.environ.get("TERM") or "dumb",
        "env": {},
        "prompt": session.location,
        "command": {"argv": [os.fsencode(word) for word in command]} if command else None,
    }
    screen = _Screen(await session._connection.ready())
    screen.open(arguments)
    await screen.accepted_or_over()
    return screen


class _Screen(Listener):
    """The channel of the verb, as its tasks see it. ``notifier`` notifies when anything changes."""

    def __init__(self, link: Link) -> None:
        self.notifier = Notifier()
        self.shown: deque[bytes] = deque()
        self.end: _End | None = None
        self.error: RemitError | None = None
        self.problem: str | None = None
        self.left = False  # the user wants no more of it
        self._link = link
        self._channel: Channel
        self._open = False

    # -- what the link tells

    def accepted(self, body: bytes) -> None:
        self.problem = decode(body, _Entered).problem
        self._open = True
        self.notifier.notify()

    def refused(self, error: RemitError) -> None:
        self.error = error
        self.notifier.notify()

    lost = refused

    def data(self, piece: Piece) -> None:
        self.shown.append(piece.data)
        self.notifier.notify()

    def ended(self, body: bytes) -> None:
        self.end = decode(body, _End)
        self.notifier.notify()

    # -- what is told to the link

    def open(self, arguments: dict[str, object]) -> None:
        self._channel = self._link.open("enter", arguments, self, _WINDOW)

    async def accepted_or_over(self) -> None:
        """Raises what the agent refused it for, or LinkLost."""
        while not self._open:
            if self.error is not None:
                raise self.error
            await self.notifier.wait()

    @property
    def over(self) -> bool:
        return self.end is not None or self.error is not None

    async def type(self, keys: bytes) -> None:
        """Sends them, as fast as they are taken there."""
        with suppress(RemitError):  # it is over, and whoever shows it knows why
            await self._channel.send(Parcel(keys))

    def took(self, size: int) -> None:
        """So much of what was shown is on the screen: as much more may come."""
        self._channel.consumed(size)

    def resize(self) -> None:
        rows, columns = _rawmode.size()
        self._channel.event("resize", rows=rows, columns=columns)


async def _converse(screen: _Screen, make_raw: Callable[[], None]) -> int:
    """Both directions, until the program there is over, the link is, or we are told to leave."""
    status = 0
    modes = Modes()
    async with anyio.create_task_group() as tasks:

        def leave(with_status: int) -> None:
            nonlocal status
            status = with_status
            tasks.cancel_scope.cancel()

        async def watch_signals() -> None:
            changes = (signal.SIGWINCH, signal.SIGCONT)
            endings = _interrupts.heeded(*_ENDINGS)
            with anyio.open_signal_receiver(*changes, *endings) as signals:
                async for number in signals:
                    if number in endings:
                        leave(128 + number)
                        return
                    if number == signal.SIGCONT:
                        make_raw()  # the shell that we were stopped in has had it
                    screen.resize()

        async def type_keys() -> None:
            if not await _type_all(screen):
                leave(LINK if screen.left else _TERMINAL_GONE)

        async def show() -> None:
            try:
                await _show_all(screen, modes)
            except OSError as exc:
                leave(_unshown(exc))
                return
            leave(_status(screen.end) if screen.end is not None else LINK)

        for function in (watch_signals, type_keys, show):
            tasks.start_soon(function)
    if screen.end is None and os.isatty(1):
        # Nobody there can put back what was changed: the alternate screen, the mouse, a cursor.
        with suppress(OSError):
            write_all(1, modes.undo())
    return status


def _unshown(error: OSError) -> int:
    """The exit status where what is shown there cannot be written here."""
    if error.errno == errno.EIO:
        return _TERMINAL_GONE
    if error.errno == errno.EPIPE:
        return BROKEN_PIPE
    return report(error)


async def _type_all(screen: _Screen) -> bool:
    """Passes our stdin on, and says its end; False where stdin is a terminal that is gone, or where
    its user leaves."""
    stdin = Descriptor(0)
    if stdin.terminal:
        await _type_from_terminal(screen, stdin)
        return False
    last = b"\n"
    while keys := await stdin.read():
        await screen.type(keys)
        last = keys[-1:]
    if last != b"\n":
        await screen.type(b"\n")  # Ctrl-D within a line ends nothing
    while True:
        # A key that comes while nobody reads is lost to a line editor that starts afterwards, but
        # the end of a file never is: so it is said until it is heard.
        await screen.type(_END_OF_INPUT)
        await anyio.sleep(_END_AGAIN)


async def _type_from_terminal(screen: _Screen, stdin: Descriptor) -> None:
    """Returns where the terminal is gone or ``~.`` was typed: that is heeded even if nothing is
    taken there."""
    escapes = Escapes()
    send, receive = anyio.create_memory_object_stream[bytes](_TYPED_AHEAD)

    async def pass_on() -> None:
        async for keys in receive:
            await screen.type(keys)

    with send, receive:
        async with _interrupts.beside(pass_on):
            while keys := await stdin.read():
                keys, screen.left = escapes.feed(keys)
                if screen.left:
                    return
                await send.send(keys)


async def _show_all(screen: _Screen, modes: Modes) -> None:
    """Writes what comes as it comes: it is meant for this terminal. Returns once all is over."""
    stdout = Descriptor(1)
    while True:
        while screen.shown:
            piece = screen.shown.popleft()
            modes.feed(piece)
            await stdout.write(piece)
            screen.took(len(piece))
        if screen.over:
            return
        await screen.notifier.wait()


def _status(end: _End) -> int:
    state = JobState.COMPLETED if end.exit_status == 0 else JobState.FAILED
    outcome = Outcome(exit_status=end.exit_status, signal=end.signal)
    return _endings.exit_status(state, outcome)


def _tell(error: RemitError) -> int:
    """Says why it is over; the last line says that it is the link."""
    lines = error.evidence.splitlines()
    if os.isatty(2):
        lines.insert(0, "")  # the program there was somewhere in a line
    say(*lines, f"remit: {error.message}")
    return LINK
