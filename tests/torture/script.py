"""Scripts: which jobs are started when, and what goes wrong meanwhile. Made from a seed."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Literal

import msgspec

from torture import work

Reading = Literal["consume", "keep", "both", "later"]

SIGNALS = ("SIGKILL", "SIGTERM", "SIGUSR1")
# Ends of links and processes that remit has to get over, each with how often it is chosen.
EVERYWHERE = {
    "kill-agent": 4,
    "kill-janitor": 1,
    "kill-supervisor": 2,
    "kill-forkserver": 1,
    "kill-caller": 3,
    "stall-agent": 2,
    "stall-caller": 1,
    "stall-supervisor": 1,
    "jump-clock": 2,
    "slow-disk": 2,
    "no-forks": 2,
    "few-files": 2,
    "take-pid": 3,
}
_LASTING = ("cut", "blackhole", "slow-disk", "no-forks", "few-files")
SMALL = 6 << 20  # bytes of a state directory that fills up


class Plan(msgspec.Struct, frozen=True):
    """One job. Times are seconds from the beginning of the script."""

    number: int
    id: str
    at: float
    placement: Literal["keep", "return"]
    lifetime: Literal["detached", "session"]
    reading: Reading
    leaves: tuple[int, ...]
    """After how many records a reader leaves off, to come again; then the next one does …"""
    slow: float
    """Seconds that a reader takes for each of a pass's first records."""
    seed: int
    lines: int
    pace: float
    status: int
    ending: str
    """The signal by which it ends itself, or nothing."""
    daemons: tuple[str, ...]
    """What it leaves behind, in words of `torture.work.leave_behind`."""
    leftovers: Literal["leave", "stop"] = "leave"

    @property
    def output(self) -> dict[str, bytes]:
        """All that it prints."""
        written: dict[str, list[bytes]] = {"stdout": [], "stderr": []}
        for _, fd, data in work.pieces(self.seed, self.lines, self.pace):
            written["stdout" if fd == 1 else "stderr"].append(data)
        return {stream: b"".join(data) for stream, data in written.items()}


class Cancel(msgspec.Struct, frozen=True):
    """Something that is begun, and cancelled so many seconds later."""

    number: int
    id: str
    at: float
    what: Literal["call", "start", "run"]
    function: bool
    placement: Literal["keep", "return"]
    after: float


class Fault(msgspec.Struct, frozen=True):
    """``pick`` chooses among those that it could hit; ``length`` is 0 for what does not last."""

    at: float
    kind: str
    pick: int
    length: float


class Script(msgspec.Struct, frozen=True):
    seed: int
    place: str
    backend: Literal["asyncio", "trio"]
    silence: float
    small: bool
    """Whether the state directory fills up."""
    jobs: tuple[Plan, ...]
    faults: tuple[Fault, ...]
    cancels: tuple[Cancel, ...] = ()
    musl: bool = False
    """Whether the target's C library keeps signals to itself as musl does."""

    def to_json(self) -> bytes:
        return msgspec.json.format(msgspec.json.encode(self), indent=1)

    @classmethod
    def from_json(cls, text: bytes) -> Script:
        return msgspec.json.decode(text, type=cls)


def invent(
    seed: int, place: str, kinds: Mapping[str, int], can_fill: bool, haste: float = 1.0
) -> Script:
    """The script of that seed, for a place where ``kinds`` of faults can happen, as often as their
    weights say, and whose state directory can be made to fill up or cannot. ``haste``: how many
    times as fast all of it goes."""
    dice = random.Random(f"{seed} {place}")
    length = dice.uniform(6, 14) / haste
    faults = [_fault(dice, kinds, length, haste) for _ in range(dice.randint(3, 12))]
    faults.sort(key=lambda fault: fault.at)
    return Script(
        seed=seed,
        place=place,
        backend=dice.choice(("asyncio", "trio")),
        silence=dice.uniform(2, 5),
        small=can_fill and dice.random() < 0.15,
        jobs=tuple(
            _plan(dice, number, length, haste, {fault.kind for fault in faults})
            for number in range(dice.randint(3, 7))
        ),
        faults=tuple(faults),
        cancels=tuple(_cancel(dice, number, length) for number in range(dice.randrange(5))),
        musl=dice.random() < 0.2,
    )


def _cancel(dice: random.Random, number: int, length: float) -> Cancel:
    what: Literal["call", "start", "run"] = dice.choice(("call", "start", "run"))
    return Cancel(
        number=number,
        id=_id(dice),
        at=dice.uniform(0, length),
        what=what,
        function=what == "call" or dice.random() < 0.6,
        placement=dice.choice(("keep", "return")),
        # From before it was sent until long after it has begun.
        after=10 ** dice.uniform(-4, 0.3),
    )


def _id(dice: random.Random) -> str:
    return "j" + "".join(dice.choice("abcdefghijklmnopqrstuvwxyz234567") for _ in range(12))


def _fault(dice: random.Random, kinds: Mapping[str, int], length: float, haste: float) -> Fault:
    kind = dice.choices(list(kinds), list(kinds.values()))[0]
    lasts = dice.choice((dice.uniform(0.1, 1.5), dice.uniform(3, 9))) if _lasts(kind) else 0.0
    return Fault(dice.uniform(0.2, length), kind, dice.randrange(1 << 16), lasts / haste)


def _lasts(kind: str) -> bool:
    return kind in _LASTING or kind.startswith("stall-")


def _plan(dice: random.Random, number: int, length: float, haste: float, faults: set[str]) -> Plan:
    bursts = dice.random() < 0.35
    pace = 0.0 if bursts else dice.uniform(0.002, 0.08)
    # In lines of 30 bytes: up to 7 MB at once, or what keeps the job busy for its part of the time.
    lines = dice.randint(1, 250_000) if bursts else int(dice.uniform(0, length) / pace * 2.5) + 1
    kept = dice.random() < 0.75
    session = not kept or dice.random() < 0.2
    ending = dice.choice(SIGNALS) if dice.random() < 0.15 else ""
    readings: tuple[Reading, ...] = ("consume", "consume", "keep", "both", "later")
    reading = dice.choice(readings[:4]) if session else dice.choice(readings)
    return Plan(
        number=number,
        id=_id(dice),
        at=dice.uniform(0, length * 0.7),
        placement="keep" if kept else "return",
        lifetime="session" if session else "detached",
        reading=reading,
        leaves=tuple(dice.randint(1, 40) for _ in range(dice.randrange(4))),
        slow=dice.choice((0.0, dice.uniform(0.01, 0.3))) / haste,
        seed=dice.randrange(1 << 30),
        lines=lines,
        pace=pace,
        status=0 if ending else dice.choice((0, 0, 0, 3, 255)),
        ending=ending,
        daemons=_daemons(dice, kept, faults),
        leftovers=dice.choice(("leave", "leave", "stop")),
    )


def _daemons(dice: random.Random, kept: bool, faults: set[str]) -> tuple[str, ...]:
    kinds = ["quiet", "holding"]
    # One that dropped all marks is found by descent alone, as long as its ancestor lives.
    if ("kill-supervisor" if kept else "kill-janitor") not in faults:
        kinds.append("bare")
    return tuple(dice.choice(kinds) for _ in range(dice.choice((0, 0, 0, 1, 2))))
