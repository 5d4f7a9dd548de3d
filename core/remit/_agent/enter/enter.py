"""The verb ``enter``: a shell, or another program, in a terminal on the target.

What is typed comes as stream 0, what the terminal shows goes as stream 1, both under credit.
Standard library only, Python 3.6.
"""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

from remit._agent.base import process_tree, pty, spawn
from remit._agent.base.channel import Handler
from remit._agent.base.environment import account, change
from remit._agent.enter import control_socket, rc_files
from remit._agent.enter.control_socket import LocalCaller
from remit._jobdir import proc, statedir
from remit._wire.conversation import Piece
from remit._wire.ended import of_status
from remit._wire.refusal import Refused
from remit._wire.requests import EVENTS, take_all

if TYPE_CHECKING:
    from typing import Any, Callable

    from remit._agent.base.link import Link
    from remit._agent.base.services import Session
    from remit._agent.enter.control_socket import ControlSocket

# Bytes that may be typed ahead of a program that does not read.
TYPED_WINDOW = 1 << 16
_LARGEST_READ = 1 << 16
# What a terminal can hold back when its first program ends is less than this; a process that was
# left behind and goes on printing is not waited for.
_LAST_WORDS = 1 << 18
# Seconds after the hang-up until a program that does not heed it is asked to end, and is killed.
TERM_AFTER = 2.0
KILL_AFTER = 3.0
# Seconds that a shell may take for its rc files.
SHIM_PATIENCE = 3.0
_NO_SHIM = "\r\nremit: this shell's prompt does not show where it is; `remit` is %s/remit here\r\n"
_DOOR_HINT = "$REMIT_STATE_DIR there (or ?state=), a directory that only this account can write to"
# The session's own size is that of the terminal; what an outer one told its programs is wrong here.
_NOT_INHERITED = (b"LINES", b"COLUMNS", b"TERMCAP")


def enter(link: Link, channel: int, args: dict[str, Any]) -> None:
    place = os.uname().nodename if args["prompt"] is None else args["prompt"]
    command = args["command"]
    env = _environment(args["term"])
    change(env, args["env"])
    try:
        ours, theirs = pty.open_pair(args["rows"], args["columns"])
    except OSError as exc:
        raise Refused(
            "os",
            "no terminal can be opened there: %s" % exc.strerror,
            hint="`remit run` runs a command without a terminal",
            errno=exc.errno,
        ) from exc
    door, problem = _open_door(link.session, place)
    link.session.orphans  # noqa: B018 - adopts from now on: the program may leave some at once
    try:
        argv = _prepare(command, None if door is None else door.path, env, place)
        pid = spawn.spawn_in_terminal(argv, env, theirs)
    except (OSError, spawn.SpawnError) as exc:
        os.close(ours)
        if door is not None:
            door.close()
        raise Refused("start-failed", str(exc)) from exc
    finally:
        os.close(theirs)
    entered = Entered(link, channel, ours, pid, door)
    link.handlers[channel] = entered
    link.accept(channel, {"prompt": rc_files.mark(place), "problem": problem})
    entered.begin()
    if command is None and door is not None:
        link.loop.call_later(SHIM_PATIENCE, entered.look_for_shim)


class Entered(Handler):
    """One terminal and what runs in it, from the first byte to the end of its first program."""

    def __init__(
        self, link: Link, channel: int, ours: int, pid: int, door: ControlSocket | None
    ) -> None:
        self._link = link
        self._channel = channel
        self._ours = ours
        self._pid = pid
        self._door = door
        self._local_callers: list[LocalCaller] = []
        self._typed = bytearray()  # not yet taken by the terminal
        self._seq = 0
        self._offset = 0
        self._closed = False  # our end of the terminal is
        self._status: int | None = None  # of the first program, as waitpid tells it
        self._last_words = 0  # bytes shown since then
        self._left: list[str] | None = None  # who runs on without it; None until that is known
        self._all_shown = False
        self._gone: list[Callable[..., object]] = []  # to be called once the first program ended

    def begin(self) -> None:
        self._link.session.children.watch(self._pid, self._program_ended)
        root = (self._pid, proc.start_time(self._pid) or 0)
        self._terminal = self._link.session.news.terminal(self._pid, root)
        self._link.session.on_session_end.append(self._session_ends)
        self._link.conversation.grant(self._channel, TYPED_WINDOW)
        self._watch()
        if self._door is not None:
            self._link.loop.watch_fd(self._door.fileno(), self._somebody_comes)

    def look_for_shim(self) -> None:
        """Says so where the shell has read none of ours: in its own terminal, since nobody else is
        listening."""
        if self._closed or self._status is not None or self._door is None:
            return
        path = self._door.path
        if not os.path.exists(os.path.join(path, rc_files.READ)):
            shown = "".join(char if char.isprintable() else "?" for char in os.fsdecode(path))
            self._send(os.fsencode(_NO_SHIM % shown))

    # -- what the link says

    def on_data(self, piece: Piece) -> None:
        self._typed += piece.data
        self._type()

    def on_event(self, name: str, args: dict[str, Any]) -> None:
        if name == "resize" and not self._closed:
            size = take_all(EVENTS[name], args)
            pty.resize(self._ours, size["rows"], size["columns"])

    def on_credit(self) -> None:
        self._watch()

    on_room = on_credit

    def on_close(self) -> None:
        self._hang_up()

    # -- between the link and the terminal

    def _type(self) -> None:
        """Gives the terminal what it takes of what was typed."""
        link, taken = self._link, 0
        while self._typed and not self._closed:
            try:
                count = os.write(self._ours, self._typed)
            except BlockingIOError:
                link.loop.watch_writable(self._ours, self._type)
                break
            except OSError:
                count = len(self._typed)  # nobody is left to read it
            del self._typed[:count]
            taken += count
        else:
            link.loop.unwatch_writable(self._ours)
        link.conversation.grant(self._channel, taken)

    def _watch(self) -> None:
        if not self._closed:
            self._link.loop.watch_fd(self._ours, self._show)
            if self._status is not None:
                self._show()

    def _show(self) -> None:
        """Sends what the terminal shows, as far as the caller has room for it."""
        while not self._closed:
            most = min(self._link.conversation.credit(self._channel), _LARGEST_READ)
            if not most or not self._link.has_room():
                self._link.loop.unwatch_fd(self._ours)
                return
            try:
                data = os.read(self._ours, most)
            except BlockingIOError:
                break
            except OSError:
                data = b""  # EIO: nobody has the other end open any more
            if not data:
                self._link.loop.unwatch_fd(self._ours)
                break
            self._send(data)
            if self._status is None:
                return  # other links and jobs have their turn
            self._last_words += len(data)
            if self._last_words > _LAST_WORDS:
                break
        if self._status is not None:
            self._end()

    def _send(self, data: bytes) -> None:
        piece = Piece(1, self._seq, self._offset, time.time(), data)
        self._link.conversation.data(self._channel, piece)
        self._seq += 1
        self._offset += len(data)

    # -- the jobs of those inside

    def _somebody_comes(self) -> None:
        fd = self._door.admit() if self._door is not None else None
        if fd is not None:
            self._local_callers = [
                local_caller for local_caller in self._local_callers if local_caller.present
            ]
            self._local_callers.append(
                LocalCaller(self._link.session, fd, control_socket.launch_code())
            )

    # -- the end

    def _program_ended(self, status: int) -> None:
        self._status = status
        if not self._closed:
            # As long as the terminal counts as one that runs, what nobody else started is its.
            search = self._link.session.orphans.search({}, self._terminal)
            self._link.session.take(process_tree.naming_in_the_end(search), self._found_left)
        self._link.session.news.job(self._terminal, False, left=True)
        for call in self._gone:
            call()
        self._link.session.on_session_end.remove(self._session_ends)
        if not self._closed:
            self._show()

    def _found_left(self, left: list[str] | None, error: Refused | None) -> None:
        self._left = left or []
        if self._all_shown:
            self._end()

    def _end(self) -> None:
        """The program is gone and what it said last is sent."""
        self._close()
        self._all_shown = True
        if self._left is None:
            return
        how = of_status(self._status or 0)
        end: dict[str, object] = {"exit_status": how.exit_status, "signal": how.signal}
        if self._left:
            end["left_behind"] = self._left
        self._link.end(self._channel, end)

    def _hang_up(self) -> None:
        """Nobody looks at the terminal any more: the program is told, and ended if need be."""
        if self._closed:
            return
        # With this the kernel hangs up: HUP and CONT to the leader of the session, and once that
        # has ended to those in front. One of ours beside it would be a second one, which makes
        # bash drop what it does on its way out.
        self._close()
        self._link.loop.call_later(TERM_AFTER, lambda: self._signal(signal.SIGTERM))
        self._link.loop.call_later(KILL_AFTER, lambda: self._signal(signal.SIGKILL))

    def _signal(self, signum: int) -> None:
        # A child that nobody has waited for keeps its pid.
        if self._status is None:
            os.kill(self._pid, signum)

    def _session_ends(self, finished: Callable[..., object]) -> None:
        self._gone.append(finished)
        self._hang_up()

    def _close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._link.loop.unwatch_fd(self._ours)
        self._link.loop.unwatch_writable(self._ours)
        os.close(self._ours)
        for local_caller in self._local_callers:
            local_caller.close()
        if self._door is not None:
            self._link.loop.unwatch_fd(self._door.fileno())
            self._door.close()


def _open_door(session: Session, place: str) -> tuple[ControlSocket | None, str | None]:
    """The way back for `remit` inside, and where there is none the reason."""

    def runtime() -> bytes:
        path = os.environb.get(b"XDG_RUNTIME_DIR")
        if not path or not path.startswith(b"/"):
            raise Refused("no-state", "there is no XDG_RUNTIME_DIR")
        return path

    def state() -> bytes:
        if session.state is None:
            raise Refused("no-state", session.state_problem or "there is no state directory")
        statedir.make_parents(session.state.path)
        return session.state.path

    try:
        remove = session.news.remove_at_end
        return control_socket.open_in_first([runtime, state], place, remove), None
    except Refused as exc:
        return None, "`remit` cannot be used inside: %s\n  try     %s" % (exc.message, _DOOR_HINT)


def _environment(term: str) -> dict[bytes, bytes]:
    """What a login would give."""
    env = {key: value for key, value in account().items() if key not in _NOT_INHERITED}
    env[b"TERM"] = os.fsencode(term)
    name, home, _ = _account()
    for key, value in ((b"USER", name), (b"LOGNAME", name), (b"HOME", home)):
        if value:
            env.setdefault(key, value)
    return env


def _prepare(
    command: dict[str, Any] | None, directory: bytes | None, env: dict[bytes, bytes], place: str
) -> list[bytes]:
    """The words to start; adds to ``env`` what goes with them."""
    if command is None:
        shell = env[b"SHELL"] = _login_shell()
        start = rc_files.start(shell, directory, env, place)
        env.update(start.env)
        return [shell, *start.words]
    if directory is not None:
        env[b"PATH"] = rc_files.with_path(directory, env)
    if command.get("line") is not None:
        return [b"/bin/sh", b"-c", command["line"]]
    return list(command["argv"])


def _account() -> tuple[bytes, bytes, bytes]:
    """Name, home and login shell by the password database; empty where it knows us not."""
    import pwd

    try:
        entry = pwd.getpwuid(os.geteuid())
    except KeyError:
        return b"", b"", b""
    return os.fsencode(entry.pw_name), os.fsencode(entry.pw_dir), os.fsencode(entry.pw_shell)


def _login_shell() -> bytes:
    for shell in (_account()[2], os.environb.get(b"SHELL", b"")):
        if shell.startswith(b"/") and os.path.isfile(shell) and os.access(shell, os.X_OK):
            return shell
    return b"/bin/sh"
