"""One link to the agent on a target: the attempts, what each says, and its life to its end."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable
from typing import Any, Protocol

import anyio
import attrs

from remit._errors import ConnectError, PluginError, RemitError, RemoteProtocolError
from remit._link import bootstrap, tracing
from remit._link.carrier import Carried, Carrier
from remit._link.link import Link
from remit._link.statuses import OPEN, STARTING, Statuses
from remit._session.farewell import Callers
from remit._target import via
from remit._version import __version__
from remit._wire.conversation import PROTOCOL
from remit.abc import Target


class Owner(Protocol):
    """Whose links they are."""

    def opened(self, link: Link) -> None:
        """An agent came up, and its hello is a sound one."""

    def lost(self, error: RemitError) -> RemitError:
        """The link is over. Said at once: closing what carried it may take seconds. Returns why
        it is over, as its owner sees it."""


class Dialing(Protocol):
    """What makes the links of a session."""

    @property
    def statuses(self) -> Statuses:
        """Who is told what happens meanwhile."""

    async def converse(self, owner: Owner) -> RemitError:
        """Connects, and serves the link until it is lost; tells why. Raises ConnectError and
        PluginError where no agent came up."""


@attrs.frozen
class Dialer:
    """How one target is reached: `Dialing`. Has no state of its own."""

    target: Target
    carrier: Carrier
    silence: float
    statuses: Statuses

    async def converse(self, owner: Owner) -> RemitError:
        for attempt in self._attempts():
            verdict = await _Attempt(self, owner, attempt).made()
            if verdict is not None:
                return verdict
        raise AssertionError("the last attempt has a verdict")

    def _attempts(self) -> list[bootstrap.Attempt]:
        named = self.target.options.get("python")
        own = sys.executable if self.carrier.here else None
        words = via(self.target)
        # Another account may not be able to run the caller's own.
        return bootstrap.attempts(named or own, words, only=bool(named) or not words)

    def hello(self) -> dict[str, Any]:
        """What the agent is told first."""
        state = self.target.options.get("state")
        return {
            "protocol": PROTOCOL,
            "features": [],
            "silence": self.silence,
            "patience": Callers.patience,
            "state": None if state is None else os.fsencode(state),
            "resume": None,
            "trace": tracing.file(),
            "version": __version__,
        }

    def check(self, link: Link) -> None:
        """Raises RemoteProtocolError where the agent that came up is of no use."""
        assert link.hello is not None
        if link.hello.protocol != PROTOCOL:
            raise RemoteProtocolError(
                f"it speaks protocol {link.hello.protocol}, this remit speaks {PROTOCOL}"
            )
        if link.hello.problem is not None:
            raise RemoteProtocolError(f"no agent can work on {self.target}: {link.hello.problem}")


class _Attempt:
    """One way to start Python there, and what came of it."""

    def __init__(self, dialer: Dialer, owner: Owner, attempt: bootstrap.Attempt) -> None:
        self._dialer = dialer
        self._target = dialer.target
        self._carrier = dialer.carrier
        self._owner = owner
        self._attempt = attempt
        self._heard = bootstrap.Heard(dialer.statuses)
        self._connecting = anyio.CancelScope()
        self._stands = False  # there is a link, and nobody was told yet that it is over

    async def made(self) -> RemitError | None:
        """Why the link was lost, or None where another attempt may do better. Raises ConnectError
        and PluginError where no agent came up."""
        with self._connecting as connecting:
            # What an earlier attempt took is not counted: it ended at once.
            connecting.deadline = anyio.current_time() + self._target.connect_timeout
            verdict = await self._try()
        if connecting.cancelled_caught:
            raise bootstrap.late(self._target, self._carrier, self._attempt, self._heard)
        if verdict is not None and not self._heard.agent:
            raise verdict
        return verdict

    async def _try(self) -> RemitError | None:
        """A ConnectError where no agent came up, None where another attempt may do better, else
        why the link was lost."""
        self._dialer.statuses.tell(STARTING, str(self._attempt))
        try:
            async with self._carrier.open(self._target, self._attempt.argv) as stream:
                verdict = await self._talk(stream)
                self._connecting.deadline = math.inf  # nor does leaving count
                return verdict
        except (ConnectError, PluginError) as exc:
            if not self._stands:
                raise
            return self._lost(exc)  # a task of the transport's failed under the link

    async def _talk(self, stream: Carried) -> RemitError | None:
        """As `_try`. Raises nothing: the transport's context may hold a task group, which would
        wrap it."""
        try:
            rest, opening = await bootstrap.reach(
                stream, self._attempt, self._target, self._carrier, self._heard
            )
        except bootstrap.NoPython:
            return None
        except (ConnectError, PluginError) as exc:
            return exc
        link = Link(stream, self._dialer.silence, str(self._target))
        met: Callable[[], None] = lambda: self._met(link)  # noqa: E731
        lost = await link.run(rest, opening, self._dialer.hello(), met)
        if self._stands:
            return self._lost(lost)
        return await bootstrap.failed(stream, self._target, self._carrier, self._attempt, lost)

    def _met(self, link: Link) -> None:
        self._connecting.deadline = math.inf
        self._dialer.check(link)
        self._stands = True
        assert link.hello is not None
        self._dialer.statuses.tell(OPEN, f"{link.hello.user}@{link.hello.hostname}")
        self._owner.opened(link)
        self._heard.agent = True

    def _lost(self, error: RemitError) -> RemitError:
        self._stands = False
        return self._owner.lost(error)
