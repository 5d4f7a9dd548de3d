"""Watching kept jobs: each new state of a job, told on a channel. Python 3.6."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from remit._agent.base.helpers import EndedEarly
from remit._agent.kept.follow import Followers, Following
from remit._agent.kept.known import Known
from remit._jobdir import views
from remit._wire import states

if TYPE_CHECKING:
    from typing import Any

    from remit._agent.base.link import Link
    from remit._agent.base.loop import Timer
    from remit._wire.refusal import Refused

# Seconds without an answer after which a watched job's directory counts as out of reach.
_SILENCE = 5.0


def watch(link: Link, channel: int, path: bytes, job_id: str) -> None:
    """The verb: each new state of the job, until it is finished and nothing of it runs."""
    watcher = _Watcher(link, channel, path, job_id, None)
    link.handlers[channel] = watcher
    watcher.look()


def watch_started(link: Link, channel: int, path: bytes, view: dict[str, Any]) -> None:
    """The same on the channel of an accepted start, until the job is finished."""
    watcher = _Watcher(link, channel, path, view["id"], view)
    link.handlers[channel] = watcher
    watcher.look()


def expect_removal(link: Link, job_id: str) -> None:
    """A removal by force is asked for here: a job that goes without a word was stopped by it."""
    for each in link.session.only(Followers).of(link, job_id):
        each.gone_by = "stopped"


class _Watcher(Following):
    """Tells of the job's states on a channel."""

    def __init__(
        self, link: Link, channel: int, path: bytes, job_id: str, started: dict[str, Any] | None
    ) -> None:
        """``started``: what the caller was told in the answer to its start."""
        super().__init__(link, channel, path, job_id)
        self._linger = started is None
        self._first = True
        self._view = started
        self._hold: int | None = None  # of a job with a lease, one of whose callers this is
        self._silent: Timer | None = None

    def _begin(self) -> None:
        self._silent = self.link.loop.call_later(_SILENCE, self._hangs)
        self._ask("look", self._inotify.fd, self._first)

    def _answered(self, answer: Any, refused: Refused | None) -> None:
        if self._silent is not None:
            self._silent.cancel()
        if refused is not None:
            self._refused(refused)
            return
        if self._first:
            self._first = False
            self._hold = answer.get("fd")
            self.link.session.only(Known).remember(answer["view"], answer.get("process", {}))
            self._claim(answer["watch"])
        view = answer["view"]
        self._tell(view)
        if view["state"] in states.FINISHED and not (self._linger and answer["runs_on"]):
            self._end(view)
        else:
            self.look_later()

    def _refused(self, refused: Refused) -> None:
        """It is gone, or cannot be reached just now."""
        if self._view is None and not isinstance(refused, EndedEarly):
            self.link.fail(self.channel, refused)
            self.close()
        elif self._view is None:
            self.look_later()
        elif refused.code == "not-found":
            self._end(_removed(self._view, self.gone_by))
        else:
            self._tell(views.out_of_reach(self._view, refused.message))
            self.look_later()

    def _hangs(self) -> None:
        words = "its directory has not answered for %d seconds" % _SILENCE
        self._tell(views.out_of_reach(self._view or views.unknown(self.job_id), words))

    def _tell(self, view: dict[str, Any]) -> None:
        if self._view is None:
            self.link.accept(self.channel, view)
        elif _essence(view) != _essence(self._view):
            self.link.event(self.channel, "job", **view)
        self._view = view

    def _end(self, view: dict[str, Any]) -> None:
        self.link.end(self.channel, {"job": view})
        self.close()

    def on_close(self) -> None:
        if not self._linger:
            self._hold = None  # the session that started it is its caller to the end
        self.close()

    def _came_late(self, answer: dict[str, Any]) -> None:
        if self._linger and "fd" in answer:
            os.close(answer["fd"])

    def close(self) -> None:
        if self._silent is not None:
            self._silent.cancel()
        if self._hold is not None:
            os.close(self._hold)
            self._hold = None
        super().close()


def _removed(view: dict[str, Any], reason: str) -> dict[str, Any]:
    """The last view of a job whose directory is gone: how it ended was not seen any more."""
    if view["state"] in states.FINISHED:
        return view
    state = states.STOPPED if reason == "stopped" else states.LOST
    return dict(view, state=state, outcome={"reason": reason, "error": "it was removed"})


def _essence(view: dict[str, Any]) -> tuple[object, ...]:
    """What of a job map is news: sizes alone are not."""
    return view["state"], view["outcome"], view["problem"], view["started"]
