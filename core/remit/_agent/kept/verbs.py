"""The verbs of kept jobs, as the agent's loop sees them. Helper processes do the work:
`remit._agent.kept.starting`, `remit._agent.kept.control` and `remit._agent.kept.lookup`.

What a verb needs is imported with its first request. Standard library only, Python 3.6.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from remit._agent.base.channel import Handler
from remit._agent.base.helpers import help_twice, refusal_of
from remit._agent.kept import lookup
from remit._agent.kept.known import Known, path_of

if TYPE_CHECKING:
    from typing import Any, Callable

    from remit._agent.base.helpers import Done
    from remit._agent.base.link import Link
    from remit._wire.refusal import Refused


def start(link: Link, channel: int, args: dict[str, Any]) -> None:
    """The verb, for ``spool: true``."""
    from remit._agent.kept.launch import Launch

    launch = Launch(link, channel, args)
    link.handlers[channel] = launch
    launch.begin()


def stop(link: Link, channel: int, args: dict[str, Any]) -> None:
    from remit._agent.kept import control

    rest = args["grace"], "stopped", link.session.only(Known).of(args["job"])
    _change(link, channel, args["job"], control.stop, *rest)


def suspend(link: Link, channel: int, args: dict[str, Any]) -> None:
    from remit._agent.kept import control

    _change(link, channel, args["job"], control.change, "suspend")


def resume(link: Link, channel: int, args: dict[str, Any]) -> None:
    from remit._agent.kept import control

    _change(link, channel, args["job"], control.change, "resume")


def signal(link: Link, channel: int, args: dict[str, Any]) -> None:
    from remit._agent.kept import control

    what = "signal", {"signal": args["signal"]}
    _change(link, channel, args["job"], control.change, *what, once=True)


def remove(link: Link, channel: int, args: dict[str, Any]) -> None:
    from remit._agent.kept import control, watching

    job_id = args["job"]
    if args["force"]:
        watching.expect_removal(link, job_id)
    rest = args["force"], args["leave"], link.session.only(Known).of(job_id)
    _change(link, channel, job_id, control.remove, *rest, again=control.remove_again)


def seal(link: Link, channel: int, args: dict[str, Any]) -> None:
    from remit._agent.kept import starting

    _change(link, channel, args["job"], starting.seal)


def save(link: Link, channel: int, args: dict[str, Any]) -> None:
    what = args["job"], args["path"], args["cwd"], args["stream"]
    _answer(link, channel, lookup.save, path_of(link.session), *what)


def jobs(link: Link, channel: int, args: dict[str, Any]) -> None:
    def done(page: bytes, refused: Refused | None) -> None:
        if refused is not None:
            link.fail(channel, refused)
        else:
            # It is packed already, and this was the channel's only answer.
            link.conversation.reply(channel, page)

    what = path_of(link.session), args["after"], args["limit"], _own(link)
    help_twice(link.session, lookup.jobs, what, done)


def find(link: Link, channel: int, args: dict[str, Any]) -> None:
    _answer(link, channel, lookup.find, path_of(link.session), args["name"], _own(link))


def _own(link: Link) -> dict[str, Any] | None:
    """Which session's jobs are seen beside those of none: a local caller stands in one."""
    return lookup.agent_identity(os.getpid()) if link.local else None


def if_own(link: Link, channel: int, args: dict[str, Any], verb: Callable[..., object]) -> None:
    """Does it, where the job is none of another session's."""
    job_id = args["job"]
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


class _Asked(Handler):
    """The handler of a channel whose job is being looked at."""

    given_up = False

    def on_close(self) -> None:
        self.given_up = True


def prune(link: Link, channel: int, args: dict[str, Any]) -> None:
    how = args["older_than"], args["max_total"], args["dry_run"], args["after"]
    # Never twice: a second helper would not know what the first one removed.
    link.session.helper(_prune, (path_of(link.session), *how), _replying(link, channel))


def _prune(path: bytes, *args: Any) -> dict[str, Any]:
    from remit._agent.kept.prune import prune  # in the helper: few sessions do

    return prune(path, *args)


def watch(link: Link, channel: int, args: dict[str, Any]) -> None:
    from remit._agent.kept import watching

    watching.watch(link, channel, path_of(link.session), args["job"])


def read(link: Link, channel: int, args: dict[str, Any]) -> None:
    from remit._agent.kept import reading

    reading.read(link, channel, path_of(link.session), args)


def tail(link: Link, channel: int, args: dict[str, Any]) -> None:
    what = path_of(link.session), args["job"], args["lines"], args["stream"]
    _answer(link, channel, _tail, *what)


def _tail(*args: Any) -> dict[str, Any]:
    from remit._agent.kept.tailing import tail  # in the helper, as above

    return tail(*args)


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
    once: bool = False,
) -> None:
    """As `_answer`, for what those who follow the job want to see at once. ``once``: where the
    helper is killed nobody knows whether it was done."""
    from remit._agent.kept import follow

    reply = _replying(link, channel)

    def done(value: object, refused: Refused | None) -> None:
        follow.nudge(link, job_id)
        reply(value, refused)

    what = path_of(link.session), job_id, *args
    if once:
        link.session.helper(function, what, done)
    else:
        help_twice(link.session, function, what, done, again)
    follow.nudge(link, job_id)
