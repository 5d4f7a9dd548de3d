"""What comes back of calls: gathered from pieces, checked, and taken as a value or an error."""

from __future__ import annotations

import math
from typing import Any

import anyio

from remit._decoding import decode
from remit._errors import JobFailed, RemitError, RemoteProtocolError
from remit._function_records import Failure, taken
from remit._jobs import function_output
from remit._link.messages import NotRun
from remit._wire.calls import DIED, FAILED, LAST, PICKLED, TAIL, VALUE, Malformed, Whole
from remit._wire.conversation import Piece
from remit._wire.streams import STDERR_TAIL

# Values are no larger (docs/values.md, Limits); pickles may be, from a target that is trusted.
_MOST = 1 << 32
_MOST_WORDS = 4 << 20  # of a failure, as `remit._worker.failures` cuts it


class Awaited:
    """What one call waits for: ``done`` once its answer is there, or why there is none."""

    __slots__ = ("answer", "done", "error", "number", "stderr", "unread")

    def __init__(self, number: int) -> None:
        self.number = number
        self.done = anyio.Event()
        self.answer: tuple[int, bytes | bytearray] | None = None  # its kind and its body
        self.error: RemitError | None = None
        self.stderr = b""
        self.unread: Whole | None = None

    @property
    def size(self) -> int:
        """Bytes of it."""
        return 0 if self.answer is None else len(self.answer[1])


class Answers:
    """Those that the calls over one channel wait for."""

    def __init__(self, trust: bool, place: str) -> None:
        """``trust``: whether pickles are taken; ``place``: where the functions run."""
        self._trust = trust
        self._place = place
        self._awaited: dict[int, Awaited] = {}
        self._count = 0

    def __len__(self) -> int:
        return len(self._awaited)

    def next(self) -> Awaited:
        """The one to a call more, with its number."""
        self._count += 1
        awaited = self._awaited[self._count] = Awaited(self._count)
        return awaited

    def give_up(self, awaited: Awaited) -> bool:
        """Nobody waits for it any more. Whether it has still to come."""
        return self._awaited.pop(awaited.number, None) is not None

    def take(self, piece: Piece) -> None:
        """Raises RemoteProtocolError."""
        kind, number, offset, data = piece.stream, piece.seq, piece.offset, piece.data
        awaited = self._awaited.get(number)
        if awaited is None:
            if not 0 < number <= self._count:
                raise RemoteProtocolError(f"an answer to call {number}, which nobody made")
            return  # given up here meanwhile
        try:
            if not offset:
                whole = awaited.unread = Whole(kind, data, self._most(kind))
            elif awaited.unread is None or awaited.unread.kind != kind:
                raise Malformed(f"goes on at {offset}")
            else:
                whole = awaited.unread
                whole.add(offset, data)
        except Malformed as exc:
            raise RemoteProtocolError(f"an answer to call {number} {exc}") from exc
        if whole.is_whole:
            self._answer(awaited, kind, whole.data)

    def _most(self, kind: int) -> float:
        if kind in (FAILED, DIED, TAIL):
            return _MOST_WORDS
        if kind == PICKLED:
            # One that is not taken anyway is not gathered first.
            return math.inf if self._trust else _MOST_WORDS
        return _MOST

    def _answer(self, awaited: Awaited, kind: int, body: bytes | bytearray) -> None:
        if kind == TAIL:
            awaited.stderr = bytes(body[-STDERR_TAIL:])
            awaited.unread = None
            return
        if kind not in LAST:
            raise RemoteProtocolError(f"an answer of kind {kind}")
        awaited.answer = kind, body
        del self._awaited[awaited.number]
        awaited.done.set()

    def not_run(self, why: NotRun) -> None:
        """The agent tells that no worker can be had for a call."""
        awaited = self._awaited.pop(why.call, None)
        if awaited is not None:
            why.message = f"no worker could be started on {self._place}: {why.message}"
            awaited.error = why.error()
            awaited.done.set()

    def fail(self, error: RemitError) -> None:
        """None comes any more."""
        answers, self._awaited = self._awaited, {}
        for awaited in answers.values():
            awaited.error = error.again()
            awaited.done.set()

    def taken(self, awaited: Awaited, name: str) -> Any:
        """What the function ``name`` returned. Raises as `Session.call`."""
        if awaited.error is not None:
            raise awaited.error
        assert awaited.answer is not None
        kind, body = awaited.answer
        whose = f"{name}() on {self._place}"
        if kind == VALUE:
            return taken(body, whose)
        if kind == PICKLED:
            return function_output.unpickled(body, self._trust, whose)
        if kind == FAILED:
            raise function_output.failed(
                decode(bytes(body), Failure),
                whose,
                location=self._place,
                reason="exited",
                stderr_tail=awaited.stderr,
            )
        raise self._died(body, whose)

    def _died(self, body: bytes | bytearray, whose: str) -> JobFailed:
        exit_status, signal, stderr = decode(bytes(body), tuple[int | None, str | None, bytes])
        if signal is not None:
            how = f"was ended by {signal}"
        elif exit_status is not None:
            how = f"exited with status {exit_status}"
        else:
            how = "was lost with the interpreter that it came from"
        lines = stderr.decode("utf-8", "replace").strip().splitlines()[-5:]
        return JobFailed(
            f"the worker that ran {whose} {how}",
            location=self._place,
            exit_status=exit_status,
            signal=signal,
            reason="signalled" if signal else "exited",
            stderr_tail=stderr,
            evidence="\n".join(f"stderr  {line}" for line in lines),
        )
