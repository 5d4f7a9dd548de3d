"""``remit doctor``: what works on a target, step by step, each with its evidence."""

from __future__ import annotations

import re
import shlex
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import anyio
import attrs

import remit
from remit import RemitError, Session
from remit._plugins import plugins
from remit._target import parse_target
from remit._target import via as through
from remit.abc import KeepsConnections
from remit.cli import _connecting
from remit.cli._render import array
from remit.cli._report import FAILED, OK, answer, write_all

# Clocks further apart than this make times of jobs misleading.
_MOST_SKEW = 5.0
_ROUND_TRIPS = 5
# Seconds for one step; a target that hangs is a finding.
_STEP_LIMIT = 30.0

# Who reads a finding of ours has come by this advice.
_OURSELVES = re.compile(r"(?:, or |; )?`remit doctor [^`]*`(?: tells more)?")

_INTERPRETERS = """
for p in python3 python3.14 python3.13 python3.12 python3.11 python3.10 python3.9 python3.8 \
python3.7 python3.6 /usr/libexec/platform-python; do
    q=$(command -v "$p") && printf '%s ' "$q"
done"""
# Prints "LINGER KILLS": yes or no, and "b true" where processes are ended with the last login.
_LINGERING = """
[ -d /run/systemd/system ] && command -v loginctl >/dev/null 2>&1 || exit 3
linger=$(loginctl show-user "$(id -un)" --property=Linger --value 2>/dev/null)
kills=$(busctl get-property org.freedesktop.login1 /org/freedesktop/login1 \
org.freedesktop.login1.Manager KillUserProcesses 2>/dev/null)
printf '%s/%s' "$linger" "$kills"
"""


@attrs.frozen
class Finding:
    """One step: what was looked at, whether it is well (None: nobody could tell), and what shows
    that."""

    step: str
    ok: bool | None
    evidence: str
    hint: str = ""


class _Unknown(Exception):
    """Why a step could find nothing out; the second argument is what to try."""


class _Problem(Exception):
    """What a step found to be wrong; the second argument is what to try."""


Step = Callable[[Session], Awaitable[str]]


async def doctor(target: str, *, as_json: bool) -> int:
    """Prints the findings as they come; FAILED where one is a problem, or is not known."""
    findings = []
    async for finding in examine(target):
        findings.append(finding)
        if not as_json:
            answer(*_words(finding))
    if as_json:
        write_all(1, array([attrs.asdict(finding) for finding in findings]).encode())
    return OK if all(finding.ok for finding in findings) else FAILED


async def examine(target: str) -> AsyncIterator[Finding]:
    """What there is to find; ends where the next step needs what the last one lacks."""
    try:
        parsed, transport = parse_target(target, plugins(), persist=_connecting.PERSIST)
    except RemitError as exc:
        yield _problem("transport", exc)
        return
    yield Finding("transport", True, f"{parsed.scheme}: by {type(transport).__module__}")
    if words := through(parsed):
        yield Finding("via", True, shlex.join(words))
    if isinstance(transport, KeepsConnections):
        yield Finding("reuse", True, transport.kept(parsed))
    begun = time.monotonic()
    try:
        async with _connecting.connect(target, reconnect=0) as session:
            took = time.monotonic() - begun
            yield Finding("agent", True, f"up in {took:.2f} s, {_identity(session)}")
            for name, step in _STEPS.items():
                yield await _take(name, step, session)
    except RemitError as exc:
        yield _problem("agent", exc)


async def _take(name: str, step: Step, session: Session) -> Finding:
    try:
        with anyio.fail_after(_STEP_LIMIT):
            return Finding(name, True, await step(session))
    except TimeoutError:
        return Finding(name, False, f"no answer in {_STEP_LIMIT:g} s")
    except _Problem as exc:
        return Finding(name, False, *exc.args)
    except _Unknown as exc:
        return Finding(name, None, *exc.args)
    except RemitError as exc:
        return _problem(name, exc)


def _problem(step: str, exc: RemitError) -> Finding:
    hint = _OURSELVES.sub("", exc.hint)
    return Finding(step, False, "\n".join(filter(None, [exc.message, exc.evidence])), hint)


def _identity(session: Session) -> str:
    hello = session._hello
    return f"as {hello.user} on {hello.hostname}" if hello else "as nobody knows whom"


# -- the steps, each of which raises _Problem


async def _python(session: Session) -> str:
    hello = session._hello
    assert hello is not None
    own = f"{hello.python} ({hello.executable.decode('utf-8', 'replace')})"
    found = await session.run(_INTERPRETERS)
    return f"{own}; there are: {found.stdout.decode('utf-8', 'replace').strip()}"


async def _state(session: Session) -> str:
    hello = session._hello
    assert hello is not None
    if hello.state is None or hello.state_problem:
        raise _Problem(hello.state_problem or "no state directory", f"{session.target}?state=DIR")
    # Only a job that was kept shows that jobs can be kept.
    job = await session.start(["true"], placement="keep", name="doctor")
    try:
        state = await job.wait()
    finally:
        with anyio.CancelScope(shield=True):
            await job.remove(force=True)
    if state is not remit.JobState.COMPLETED:
        raise _Problem(f"a kept job `true` is {state.capitalize()}", "")
    return f"{hello.state.decode('utf-8', 'replace')}: a job was kept there, and removed"


async def _clock(session: Session) -> str:
    before = time.time()
    job = await session.start(["true"])
    after = time.time()
    await job.wait()
    if job.created is None:
        raise _Problem("the agent tells no times", "")
    ahead = job.created.timestamp() - (before + after) / 2
    words = f"{abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'} ours"
    # A clock between our two looks cannot be told from ours.
    if abs(ahead) - (after - before) / 2 > _MOST_SKEW:
        raise _Problem(words, "times of jobs are by the target's clock; have it set")
    return words


async def _lingering(session: Session) -> str:
    done = await session.run(_LINGERING)
    if done.exit_status == 3:
        return "no logind runs there: kept jobs live on after the last login"
    linger, _, kills = done.stdout.decode("utf-8", "replace").strip().partition("/")
    if linger != "yes" and (kills not in ("b true", "b false") or (kills[2] == "t" and not linger)):
        raise _Unknown(
            "logind there does not say whether it ends kept jobs with the last login",
            "`loginctl show-user`, there; KillUserProcesses in logind.conf(5)",
        )
    if kills == "b true" and linger != "yes":
        raise _Problem(
            "logind ends kept jobs with the last login (KillUserProcesses, no lingering)",
            "loginctl enable-linger, there",
        )
    return f"kept jobs live on after the last login (lingering: {linger or 'unknown'})"


async def _round_trip(session: Session) -> str:
    times = []
    for _ in range(_ROUND_TRIPS):
        begun = time.monotonic()
        await session.run(["true"])
        times.append(time.monotonic() - begun)
    return f"a short command takes {statistics.median(times) * 1000:.1f} ms"


_STEPS: dict[str, Step] = {
    "python": _python,
    "state": _state,
    "clock": _clock,
    "lingering": _lingering,
    "round trip": _round_trip,
}


def _words(finding: Finding) -> list[str]:
    verdict = {True: "ok", False: "problem", None: "unknown"}[finding.ok]
    first, *more = finding.evidence.splitlines() or [""]
    lines = [f"{verdict:<8} {finding.step:<11} {first}"]
    lines += [f"{'':<21}{line}" for line in more]
    if finding.hint and not finding.ok:
        lines.append(f"{'':<21}try {finding.hint}")
    return lines
