"""The verbs of kept jobs, as the agent's loop sees them. Helper processes do the work:
`remit._agent.kept.starting`, `remit._agent.kept.control` and `remit._agent.kept.lookup`.

Standard library only, Python 3.6.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from remit._agent.base import arguments, manner
from remit._agent.base.helpers import EndedEarly, help_twice, refusal_of
from remit._agent.kept import control, follow, lookup, reading, starting, watching
from remit._agent.kept.forkserver import Forkservers
from remit._agent.kept.known import Known
from remit._jobdir import files, json, statedir
from remit._wire.refusal import Refused
from remit._wire.streams import TASK

if TYPE_CHECKING:
    from typing import Any, Callable

    from remit._agent.base.helpers import Done
    from remit._agent.base.link import Link
    from remit._agent.base.services import Session
    from remit._wire.conversation import Piece

# Stdin is held in memory until it is whole, since it must not be on a disk.
MAX_STDIN = 64 << 20
# And so is a function, which must not be on one either. Stream 7 brings what its request had no
# room for: `remit._agent.returned.function_job`.
MAX_TASK = 256 << 20
_WINDOW = 1 << 18
_MAX_PAGE = 10000
# Seconds until something is tried again for which no process could be had.
_AGAIN = 1.0
_LIFETIMES = ("session", "detached", "lease")
_ON_MAX = ("stop", "truncate")


def start(link: Link, channel: int, args: dict[str, Any]) -> None:
    """The verb, for ``spool: true``."""
    starting = _Start(link, channel, args)
    link.handlers[channel] = starting
    if not arguments.take(args, "stdin", bool, default=False):
        starting.on_end(None)
    else:
        link.conversation.grant(channel, _WINDOW)


def stop(link: Link, channel: int, args: dict[str, Any]) -> None:
    job_id = arguments.job_id(args, "job")
    grace = arguments.seconds(args, "grace", control.GRACE)
    _change(
        link, channel, job_id, control.stop, grace, "stopped", link.session.only(Known).of(job_id)
    )


def suspend(link: Link, channel: int, args: dict[str, Any]) -> None:
    _change(link, channel, arguments.job_id(args, "job"), control.suspend)


def resume(link: Link, channel: int, args: dict[str, Any]) -> None:
    _change(link, channel, arguments.job_id(args, "job"), control.resume)


def remove(link: Link, channel: int, args: dict[str, Any]) -> None:
    job_id = arguments.job_id(args, "job")
    force = arguments.take(args, "force", bool, default=False)
    if force:
        watching.expect_removal(link, job_id)
    leave = arguments.take(args, "leave", bool, default=False)
    rest = force, leave, link.session.only(Known).of(job_id)
    _change(link, channel, job_id, control.remove, *rest, again=control.remove_again)


def seal(link: Link, channel: int, args: dict[str, Any]) -> None:
    _change(link, channel, arguments.job_id(args, "job"), starting.seal)


def save(link: Link, channel: int, args: dict[str, Any]) -> None:
    job_id = arguments.job_id(args, "job")
    path, cwd = arguments.path(args, "path"), arguments.path(args, "cwd")
    if path is None:
        raise Refused("bad-request", "the argument path is missing")
    stream = arguments.take(args, "stream", str, default="stdout")
    if stream not in files.OUTPUTS:
        raise Refused("bad-request", "a stream that can be saved is stdout or stderr")
    _answer(link, channel, lookup.save, path_of(link.session), job_id, path, cwd, stream)


def jobs(link: Link, channel: int, args: dict[str, Any]) -> None:
    after = arguments.take(args, "after", str, default=None)
    limit = arguments.take(args, "limit", int, default=_MAX_PAGE)

    def done(page: bytes, refused: Refused | None) -> None:
        if refused is not None:
            link.fail(channel, refused)
        else:
            # It is packed already, and this was the channel's only answer.
            link.conversation.reply(channel, page)

    limit = min(max(1, limit), _MAX_PAGE)
    help_twice(link.session, lookup.jobs, (path_of(link.session), after, limit, _own(link)), done)


def find(link: Link, channel: int, args: dict[str, Any]) -> None:
    name = arguments.take(args, "name", str)
    _answer(link, channel, lookup.find, path_of(link.session), name, _own(link))


def _own(link: Link) -> dict[str, Any] | None:
    """Which session's jobs are seen beside those of none: a local caller stands in one."""
    return lookup.agent_identity(os.getpid()) if link.local else None


def if_own(link: Link, channel: int, args: dict[str, Any], verb: Callable[..., object]) -> None:
    """Does it, where the job is none of another session's."""
    job_id = arguments.job_id(args, "job")
    asked = _Asked()
    link.handlers[channel] = asked

    def done(_: object, refused: Refused | None) -> None:
        if asked.given_up:
            return
        link.handlers.pop(channel, None)
        if refused is None:
            try:
                verb(link, channel, args)
            except Exception as exc:
                refused = refusal_of(exc)
        if refused is not None:
            link.fail(channel, refused)

    help_twice(link.session, lookup.check_own, (path_of(link.session), job_id, _own(link)), done)


class _Asked:
    """The handler of a channel whose job is being looked at."""

    given_up = False

    def on_close(self) -> None:
        self.given_up = True


def prune(link: Link, channel: int, args: dict[str, Any]) -> None:
    older_than = arguments.seconds(args, "older_than", None)
    max_total = arguments.take(args, "max_total", int, default=None)
    if older_than is None and max_total is None:
        raise Refused("bad-request", "nothing says what is to be pruned")
    dry_run = arguments.take(args, "dry_run", bool, default=False)
    after = arguments.take(args, "after", list, default=None)
    if after is not None and [type(item) for item in after] != [float, str]:
        raise Refused("bad-request", "the argument after is no answer of this verb")
    what = path_of(link.session), older_than, max_total, dry_run, after
    # Never twice: a second helper would not know what the first one removed.
    link.session.helper(_prune, what, _replying(link, channel))


def _prune(path: bytes, *args: Any) -> dict[str, Any]:
    from remit._agent.kept.prune import prune  # in the helper: few sessions do

    return prune(path, *args)


def watch(link: Link, channel: int, args: dict[str, Any]) -> None:
    watching.watch(link, channel, path_of(link.session), arguments.job_id(args, "job"))


def read(link: Link, channel: int, args: dict[str, Any]) -> None:
    reading.read(link, channel, path_of(link.session), args)


def path_of(session: Session) -> bytes:
    """The state directory. Raises Refused where this session can have none."""
    if session.state is not None:
        return session.state.path
    asked = session.hello.get("state")
    path = statedir.choose(asked if isinstance(asked, bytes) else None)
    problem = statedir.State(path).problem()
    if problem is not None:
        raise statedir.refused(problem)
    return path


def _replying(link: Link, channel: int) -> Done:
    """What sends a helper's answer to whoever asked for it."""

    def done(value: object, refused: Refused | None) -> None:
        if refused is not None:
            link.fail(channel, refused)
        else:
            link.reply(channel, value)

    return done


def _answer(link: Link, channel: int, function: Callable[..., object], *args: object) -> None:
    help_twice(link.session, function, args, _replying(link, channel))


def _change(
    link: Link,
    channel: int,
    job_id: str,
    function: Callable[..., object],
    *args: object,
    again: Callable[..., object] | None = None,
) -> None:
    """As `_answer`, for what those who follow the job want to see at once."""

    reply = _replying(link, channel)

    def done(value: object, refused: Refused | None) -> None:
        follow.nudge(link, job_id)
        reply(value, refused)

    help_twice(link.session, function, (path_of(link.session), job_id, *args), done, again)
    follow.nudge(link, job_id)


def _surely(
    link: Link, function: Callable[..., object], args: tuple[object, ...], tries: int = 10
) -> None:
    """The same for what nobody waits for: tried until it works, or has failed ``tries`` times."""

    def ended(value: object, refused: Refused | None) -> None:
        if refused is not None and refused.code != "not-found" and tries > 1:
            link.loop.call_later(_AGAIN, lambda: _surely(link, function, args, tries - 1))

    try:
        help_twice(link.session, function, args, ended)
    except OSError:
        # No process can be had, which says nothing of the rest.
        link.loop.call_later(_AGAIN, lambda: _surely(link, function, args, tries))


class _Start:
    """The channel of a start until it is answered: collects stdin, then has the job started."""

    def __init__(self, link: Link, channel: int, args: dict[str, Any]) -> None:
        self._link = link
        self._channel = channel
        self._path = path_of(link.session)
        self._job = _job(args)
        self._env = arguments.environment(args)
        self._manner = None if args.get("manner") is None else manner.check(args["manner"])
        self._stdin = bytearray()
        self._stdin_ended = False
        self._launched = False
        self._given_up = False
        self._function: _Function | None = None
        # Before there is data, which it would keep a copy of.
        link.session.only(Forkservers).ready()
        if "function" in self._job["command"]:
            self._function = _Function(link, args)
            self._function.interpreter.when_ready(self._launch)
            link.conversation.grant(channel, _WINDOW)

    def on_data(self, piece: Piece) -> None:
        if self._launched:
            return
        if piece.stream == TASK and self._function is not None:
            self._function.task += piece.data
            self._link.conversation.grant(self._channel, len(piece.data))
            self._launch()
            return
        self._stdin += piece.data
        if len(self._stdin) > MAX_STDIN:
            self._launched = True
            self._stdin = bytearray()
            words = "a kept job's stdin is %d MiB at most" % (MAX_STDIN >> 20)
            self._link.refuse(
                self._channel, "bad-request", words, hint="send it as a file, and name that"
            )
        else:
            self._link.conversation.grant(self._channel, len(piece.data))

    def on_end(self, body: object) -> None:
        self._stdin_ended = True
        self._launch()

    def _launch(self) -> None:
        """Once all that the job needs is there."""
        function = self._function
        if self._launched or not self._stdin_ended or (function and not function.is_whole):
            return
        self._launched = True
        try:
            self._start()
        except Exception as exc:  # no process can be had, most likely
            self._link.fail(self._channel, exc)
        self._stdin = bytearray()
        self._function = None

    def _start(self) -> None:
        function = self._function
        if function is not None and function.interpreter.gone:
            raise Refused("no-python", "the interpreter was killed")
        forkserver = self._link.session.only(Forkservers).ready()
        keep_fds = [forkserver.fd]
        death_pipe = None
        if self._job["lifetime"] == "session":
            bound = self._link.session.only(_SessionJobs)
            bound.job_ids.append(self._job["id"])
            death_pipe = bound.death_pipe
            keep_fds.append(death_pipe)
            self._job["session"] = bound.identity
        args = (
            self._path,
            self._job,
            self._env,
            None if function is None else function.cold_start(),
            self._stdin,
            (forkserver.fd, forkserver.pid),
            death_pipe,
            self._manner,
        )
        self._link.session.helper(starting.start, args, self._ended, keep_fds=tuple(keep_fds))

    def on_close(self) -> None:
        self._given_up = True
        if not self._launched:
            # Nothing was started, and the caller that gave up need not ask: the id is used up.
            self._launched = True
            _surely(self._link, starting.seal, (self._path, self._job["id"]))

    def _ended(self, answer: Any, refused: Refused | None) -> None:
        """The helper has done its part, or was killed over it."""
        if isinstance(refused, EndedEarly) and not self._given_up:
            try:
                help_twice(
                    self._link.session,
                    starting.finish,
                    (self._path, self._job["id"]),
                    self._started,
                )
                return
            except OSError:
                pass  # no process can be had
        self._started(answer, refused)

    def _started(self, answer: Any, refused: Refused | None) -> None:
        if refused is None:
            self._link.session.only(Known).remember(answer["view"], answer["process"])
        if self._given_up:
            _surely(self._link, control.take_back, (self._path, self._job["id"]))
        elif refused is not None:
            self._link.fail(self._channel, refused)
        else:
            self._link.accept(self._channel, answer["view"])
            watching.watch_started(self._link, self._channel, self._path, answer["view"])


class _Function:
    """What a function job needs beyond what commands do."""

    def __init__(self, link: Link, args: dict[str, Any]) -> None:
        """Raises Refused."""
        from remit._agent.functions import interpreter
        from remit._agent.returned import function_job

        self._head, self._size = function_job.task_head(args, None, {})
        self.task = bytearray(arguments.take(args, "task", bytes, default=b""))
        self.interpreter = interpreter.of(link.session, arguments.path(args, "python"))
        if self._size > MAX_TASK:
            raise Refused(
                "bad-request",
                "a kept function and its arguments are %d MiB at most" % (MAX_TASK >> 20),
                hint="put large data into a file there, and name that",
            )

    @property
    def is_whole(self) -> bool:
        """Also where what is still missing will not come any more."""
        gone = self.interpreter.gone
        return gone or (self.interpreter.is_ready and len(self.task) >= self._size)

    def cold_start(self) -> tuple[list[bytes], bytes]:
        argv, script = self.interpreter.cold_start()
        return argv, b"".join((script, self._head, self.task))


def _job(args: dict[str, Any]) -> dict[str, Any]:
    """What job.json says: neither values of the environment nor stdin."""
    command = arguments.command(args)
    if "function" in command:
        words: object = command
    elif "line" in command:
        words = {"line": json.from_bytes(command["line"])}
    else:
        words = {"argv": [json.from_bytes(word) for word in command["argv"]]}
    cwd = arguments.path(args, "cwd")
    lifetime = arguments.take(args, "lifetime", str, default="detached")
    if lifetime not in _LIFETIMES:
        raise Refused("bad-request", "the lifetime %r is none" % lifetime)
    limits = _limits(args, lifetime)
    job = {
        "format": files.FORMAT,
        "id": arguments.job_id(args, "id"),
        "name": arguments.name(args),
        "group": arguments.take(args, "group", str, default=None),
        "command": words,
        "cwd": None if cwd is None else json.from_bytes(cwd),
        "created": time.time(),
        "placement": arguments.take(args, "placement", str, default="keep"),
        "lifetime": lifetime,
        "merge": arguments.take(args, "merge", bool, default=False),
        "leftovers": arguments.leftovers(args),
        "limits": limits,
    }
    try:
        json.dumps(job)
    except TypeError as exc:
        raise Refused("bad-request", "the limits cannot be written down: %s" % exc) from exc
    return job


def _limits(args: dict[str, Any], lifetime: str) -> dict[str, Any]:
    """Those that the supervisor is to see to, and whatever else the caller wants written down."""
    limits = dict(arguments.take(args, "limits", dict, default={}))
    timeout = arguments.seconds(args, "timeout", None)
    if timeout is not None:
        limits["timeout"] = timeout
    lease = arguments.seconds(limits, "lease", None)
    if (lease is not None) != (lifetime == "lease"):
        raise Refused("bad-request", "the lifetime lease needs a limit of that name, no other one")
    most = arguments.take(limits, "max_output", int, default=None)
    if most is not None and not 0 < most < 1 << 62:
        raise Refused("bad-request", "the limit max_output is no number of bytes")
    if limits.get("on_max", "stop") not in _ON_MAX or ("on_max" in limits and most is None):
        raise Refused("bad-request", "the limit on_max is stop or truncate, with max_output")
    return limits


class _SessionJobs:
    """The kept jobs that are bound to this session, for its end.

    A session that ends in order stops and removes them. However else the agent ends, the death pipe
    ends with it, and their supervisors stop them; what they wrote stays for a day.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._path = path_of(session)
        session.on_session_end.append(self._end)
        self.job_ids: list[str] = []
        # Only this process holds the other end; forks close it first thing.
        self.death_pipe, self._other_end = os.pipe()
        self.identity = lookup.agent_identity(os.getpid())

    def _end(self, finished: Callable[..., object]) -> None:
        if not self._session.conversation.parted:
            finished()
            return

        def done(left: Any, refused: Refused | None) -> None:
            finished([refused.message] if refused is not None else left)

        self._session.helper(control.end_session, (self._path, self.job_ids), done)
