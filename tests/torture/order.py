"""What the processes of a play are told, and where they write down what they saw."""

from __future__ import annotations

from pathlib import Path

import msgspec

from torture import work
from torture.script import Cancel, Plan, Script

_WORK = Path(work.__file__).read_text()


class Order(msgspec.Struct, frozen=True):
    script: Script
    target: str
    python: str
    diaries: str
    begin: float
    """When the script begins, by the monotonic clock."""

    def command(self, plan: Plan) -> list[str]:
        words = [self.diary(plan), self.mark(plan), plan.seed, plan.lines, plan.pace, plan.status]
        words += [plan.ending, ",".join(plan.daemons)]
        return [self.python, "-I", "-S", "-c", _WORK, *map(str, words)]

    def diary(self, plan: Plan) -> str:
        return f"{self.diaries}/{plan.number}"

    def beating(self, cancel: Cancel) -> list[str]:
        """The command that does what is to be cancelled."""
        return [self.python, "-I", "-S", "-c", _WORK, self.heart(cancel)]

    def heart(self, cancel: Cancel) -> str:
        return f"{self.diaries}/{heart_name(cancel)}"

    def mark(self, plan: Plan) -> str:
        """A word that stands in the command lines of the job's processes, and nowhere else."""
        return f"{self.diaries}:{plan.id}"

    def save(self, directory: Path) -> None:
        (directory / "order.json").write_bytes(msgspec.json.encode(self))

    @classmethod
    def load(cls, directory: Path) -> Order:
        return msgspec.json.decode((directory / "order.json").read_bytes(), type=cls)


def heart_name(cancel: Cancel) -> str:
    """The diary of what is to be cancelled."""
    return f"cancelled-{cancel.number}"


def journal_path(directory: Path) -> Path:
    return directory / "journal"


def reel_path(directory: Path, plan: Plan, kind: str, generation: int, number: int) -> Path:
    """Of one pass of a reader; ``kind`` is what it was for, and names sort as they were made."""
    return directory / f"reel-{plan.number}-{kind}-{generation:03}-{number:03}"
