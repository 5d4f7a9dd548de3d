"""The channel of a kept job's start until it is answered: collects what the job needs, then has it
started by `remit._agent.kept.starting`. Standard library only, Python 3.6.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from remit._agent.base.channel import Handler
from remit._agent.base.helpers import EndedEarly, help_twice
from remit._agent.functions import known
from remit._agent.kept import lookup, starting, watching
from remit._agent.kept.forkserver import Forkservers
from remit._agent.kept.known import Known, path_of
from remit._wire.refusal import Refused
from remit._wire.streams import TASK

if TYPE_CHECKING:
    from typing import Any, Callable

    from remit._agent.base.link import Link
    from remit._agent.base.services import Session
    from remit._wire.conversation import Piece

# Stdin is held in memory until it is whole, since it must not be on a disk.
MAX_STDIN = 64 << 20
# And so is a function, which must not be on one either. Stream 7 brings what its request had no
# room for: `remit._agent.returned.function_job`.
MAX_TASK = 256 << 20
_WINDOW = 1 << 18
# Seconds until something is tried again for which no process could be had.
_AGAIN = 1.0


class Launch(Handler):
    """One start, and the handler of its channel."""

    def __init__(self, link: Link, channel: int, args: dict[str, Any]) -> None:
        """``args`` are the fields of the request. Raises Refused."""
        self._link = link
        self._channel = channel
        self._path = path_of(link.session)
        self._asked = args
        self._id = args["id"]
        self._created = time.time()
        self._stdin = bytearray()
        self._stdin_ended = False
        self._launched = False
        self._given_up = False
        self._function: _Function | None = None
        # Before there is data, which it would keep a copy of.
        link.session.only(Forkservers).ready()
        if args["function"] is not None:
            self._function = _Function(link, args)
            self._function.interpreter.when_ready(self._launch)
            link.conversation.grant(channel, _WINDOW)

    def begin(self) -> None:
        if self._asked["stdin"]:
            self._link.conversation.grant(self._channel, _WINDOW)
        else:
            self.on_end(None)

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
        death_pipe = identity = None
        if self._asked["lifetime"] == "session":
            bound = self._link.session.only(_SessionJobs)
            bound.job_ids.append(self._id)
            death_pipe, identity = bound.death_pipe, bound.identity
            keep_fds.append(death_pipe)
        order = starting.Order(
            asked=self._asked,
            created=self._created,
            session=identity,
            function=None if function is None else function.cold_start(),
            stdin=self._stdin,
        )
        args = self._path, order, (forkserver.fd, forkserver.pid), death_pipe
        self._link.session.helper(starting.start, args, self._ended, keep_fds=tuple(keep_fds))

    def on_close(self) -> None:
        self._given_up = True
        if not self._launched:
            # Nothing was started, and the caller that gave up need not ask: the id is used up.
            self._launched = True
            _surely(self._link, starting.seal, (self._path, self._id))

    def _ended(self, answer: Any, refused: Refused | None) -> None:
        """The helper has done its part, or was killed over it."""
        if isinstance(refused, EndedEarly) and not self._given_up:
            try:
                help_twice(
                    self._link.session,
                    starting.finish,
                    (self._path, self._id),
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
            from remit._agent.kept import control  # few are given up

            _surely(self._link, control.take_back, (self._path, self._id))
        elif refused is not None:
            self._link.fail(self._channel, refused)
        else:
            self._link.accept(self._channel, answer["view"])
            watching.watch_started(self._link, self._channel, self._path, answer["view"])


class _Function:
    """What a function job needs beyond what commands do."""

    def __init__(self, link: Link, args: dict[str, Any]) -> None:
        """Raises Refused."""
        self.interpreter = known.of(link.session, args["python"])
        from remit._agent.returned import function_job  # came with the interpreter

        self._head, self._size = function_job.task_head(args["function"], None, {})
        self.task = bytearray(args["task"])
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

        from remit._agent.kept import control

        def done(left: Any, refused: Refused | None) -> None:
            finished([refused.message] if refused is not None else left)

        self._session.helper(control.end_session, (self._path, self.job_ids), done)


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
