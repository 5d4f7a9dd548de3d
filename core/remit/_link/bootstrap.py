"""From a byte stream to a running agent: find the sentinel in the noise, send the agent.

What is sent is made by `remit._link.agent_payload`; the steps are in docs/wire.md.
"""

from __future__ import annotations

import contextlib
import re
import shlex
from collections.abc import Sequence

import anyio
import attrs

from remit._errors import (
    BootstrapError,
    ConnectError,
    PluginError,
    RemitError,
    RemoteProtocolError,
)
from remit._link import agent_payload, through
from remit._link.carrier import Carried, Carrier
from remit._link.statuses import PYTHON, Said, Statuses
from remit.abc import End, Target

# A login script that waits for a line gets one, after this long, and each second from then on.
_PATIENCE = 3.0
_NOISE_KEPT = 1 << 16
# How an interpreter ends that was installed without a module which the agent cannot do without.
_NO_MODULE = re.compile(rb"^ModuleNotFoundError: No module named '(\w+)'", re.MULTILINE)


@attrs.frozen
class Attempt:
    """One way to start Python there."""

    nonce: str
    python: Sequence[str]  # the words that start it
    last: bool
    via: Sequence[str] = ()  # what stands before them

    @property
    def argv(self) -> list[str]:
        return [*self.via, *self.python]

    def __str__(self) -> str:
        return " ".join([shlex.join(self.via), *self.python[:4], "…"]).strip()


def attempts(python: str | None, via: Sequence[str] = (), *, only: bool = True) -> list[Attempt]:
    """The ways to try, best first. ``python``: the interpreter to begin with; ``only``: no other
    is tried then."""
    first, second = agent_payload.new_nonce(), agent_payload.new_nonce()
    last = python is not None and only
    known = Attempt(first, agent_payload.stage0_argv(python or "python3", first), last, via)
    others = Attempt(second, agent_payload.fallback_argv(second), True, via)
    return [known] if last else [known, others]


class NoPython(Exception):
    """This attempt met no usable interpreter; another may."""


class Heard:
    """What an attempt was answered so far, for who gives it up."""

    agent = False  # one came up

    def __init__(self, statuses: Statuses) -> None:
        self.stream: Carried | None = None
        self.noise = b""
        self.statuses = statuses
        self._stdout, self._stderr = Said(statuses), Said(statuses)
        self._tail = b""

    def take(self, data: bytes, noise: bytes) -> None:
        """Takes what just came, and what that makes of the noise before the agent."""
        self.noise = noise
        self._stdout.feed(data)
        self._look()

    def pause(self) -> None:
        """Nothing came for a while."""
        self._look()
        self._stdout.pause()
        self._stderr.pause()

    def _look(self) -> None:
        """At stderr, of which only the end is known."""
        before, self._tail = self._tail, self.stderr
        self._stderr.feed(_more(before, self._tail))

    @property
    def stderr(self) -> bytes:
        return b"" if self.stream is None else self.stream.stderr_tail


async def reach(
    stream: Carried, attempt: Attempt, target: Target, carrier: Carrier, heard: Heard
) -> tuple[bytes, bytes]:
    """Waits for the sentinel; returns what came after it, and what to send. Raises ConnectError
    and PluginError, or NoPython where another attempt may do better."""
    seen = b""
    heard.stream = stream
    patience = _PATIENCE
    while True:
        with anyio.move_on_after(patience) as waiting:
            data = await stream.receive()
        if waiting.cancelled_caught:
            heard.pause()
            patience = 1.0
            asked = through.question(target, [heard.stderr, seen])
            if asked is not None:
                raise _of(asked, attempt, End(None, heard.stderr), seen)
            # A broken pipe is the end, which is about to be read.
            with contextlib.suppress(OSError):
                await stream.send(b"\n")
            continue
        if not data:
            break
        seen += data
        found = agent_payload.find_sentinel(attempt.nonce, seen)
        if found is not None:
            if not found.too_old:
                heard.statuses.tell(PYTHON, "{}.{}".format(*found.version))
                return seen[found.end :], agent_payload.bring_up(found.version)
            if not attempt.last:
                raise NoPython
            raise BootstrapError(
                "Python {}.{} on {} is too old, the agent needs {}.{} or later".format(
                    *found.version, target, *agent_payload.OLDEST
                ),
                hint=f"{target.scheme}:{target.address}?python=PATH names another",
            )
        seen = seen[-_NOISE_KEPT:]
        heard.take(data, seen)
    if isinstance(stream.broken, PluginError):
        raise stream.broken
    end = await _end(stream)
    absent = end.exit_status in through.NO_PROGRAM or through.lacks_python(attempt.via, end)
    if absent and not attempt.last:
        raise NoPython
    raise failure(target, carrier, attempt, end, seen)


async def failed(
    stream: Carried, target: Target, carrier: Carrier, attempt: Attempt, lost: RemitError
) -> RemitError:
    """The error for an agent that was sent and did not come up."""
    if isinstance(lost, PluginError):
        return lost
    if isinstance(lost, RemoteProtocolError):
        return BootstrapError(lost.message, evidence=evidence(attempt, stream.stderr_tail, b""))
    return failure(target, carrier, attempt, await _end(stream), b"")


async def _end(stream: Carried) -> End:
    # The stream is over, so the program should be; one that is not gets no more than this.
    with anyio.move_on_after(5):
        return await stream.wait()
    return End(None, stream.stderr_tail)


def failure(
    target: Target, carrier: Carrier, attempt: Attempt, end: End, noise: bytes
) -> ConnectError:
    """The error for a program that ended before the agent was up, by what is known of it."""
    explained = carrier.explain(target, end)
    if explained is not None:
        return explained
    cause = through.cause(target, attempt.via, end, noise) if attempt.via else None
    if cause is not None:
        return _of(cause, attempt, end, noise)
    status = "still runs" if end.exit_status is None else f"ended with status {end.exit_status}"
    message = f"no agent came up on {target}; {target.scheme} {status}"
    if end.exit_status in through.NO_PROGRAM:
        message = f"there is no Python 3.6 or later on {target} (exit status {end.exit_status})"
    doctor = f"`remit doctor {shlex.quote(str(target))}`"
    named = f"{target.scheme}:{target.address}?python=PATH names another"
    hint = f"{named}; {doctor} tells more" if carrier.takes_options else f"{doctor} tells more"
    lacking = _NO_MODULE.findall(end.stderr)
    if lacking:
        module = lacking[-1].decode()
        message = f"Python on {target} lacks the module {module}, which the agent needs"
        hint = f"install the whole of it there (the package python3), or {hint}"
    return BootstrapError(
        message,
        evidence=evidence(attempt, end.stderr, noise),
        hint=hint,
        exit_status=end.exit_status,
        stderr_tail=end.stderr,
    )


def _of(cause: through.Cause, attempt: Attempt, end: End, noise: bytes) -> BootstrapError:
    return BootstrapError(
        cause.message,
        evidence=evidence(attempt, end.stderr, noise),
        hint=cause.hint,
        exit_status=end.exit_status,
        stderr_tail=end.stderr,
        lasting=cause.lasting,
    )


def late(target: Target, carrier: Carrier, attempt: Attempt, heard: Heard) -> BootstrapError:
    """The error for an agent that is not up when the connect timeout is over."""
    stderr = heard.stderr
    return BootstrapError(
        f"no agent came up on {target} within {target.connect_timeout:g} s",
        evidence=evidence(attempt, stderr, heard.noise),
        stderr_tail=stderr,
        hint=f"connect_timeout=…; `remit doctor {shlex.quote(str(target))}` tells more",
    )


def evidence(attempt: Attempt, stderr: bytes, noise: bytes) -> str:
    lines = [f"ran     {attempt}"]
    for name, data in (("stderr", stderr), ("stdout", noise)):
        text = data.decode("utf-8", "replace").strip()
        lines += [f"{name}  {line}" for line in text.splitlines()[-5:]]
    return "\n".join(lines)


def _more(before: bytes, after: bytes) -> bytes:
    """What was added to a tail, of which the beginning may be gone."""
    if after.startswith(before):
        return after[len(before) :]
    for cut in range(1, len(before)):
        if after.startswith(before[cut:]):
            return after[len(before) - cut :]
    return after
