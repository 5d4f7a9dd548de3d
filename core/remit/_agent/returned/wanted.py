"""What the start of a return job asks for, checked."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from remit._agent.base import arguments
from remit._wire.refusal import Refused

if TYPE_CHECKING:
    from typing import Any

# How much is kept of the command of a job that is over, in bytes, and what a word takes beside its
# own.
REMEMBERED_COMMAND = 1024
_WORD_SIZE = 40


class Wanted:
    def __init__(self, job_id: str, args: dict[str, Any]) -> None:
        """Raises Refused where an argument is malformed."""
        self.id = job_id
        # Of the job map of docs/wire.md: what stays as it is.
        self.facts: dict[str, Any] = {
            "id": job_id,
            "name": arguments.name(args),
            "group": arguments.take(args, "group", str, default=None),
            "placement": arguments.take(args, "placement", str),
            "lifetime": arguments.take(args, "lifetime", str),
            "location": None,
            "command": arguments.command(args),
            "cwd": arguments.path(args, "cwd"),
            "created": time.time(),
        }
        if self.facts["lifetime"] != "session":
            raise Refused("bad-request", "a job that is not kept lives as long as its session")
        self.env = arguments.environment(args)
        self.timeout = arguments.seconds(args, "timeout", None)
        self.takes_all = arguments.leftovers(args) == "stop"  # what it leaves behind ends with it
        self.merge = arguments.take(args, "merge", bool, default=False)
        self.stdin = arguments.take(args, "stdin", bool, default=False)

    @property
    def command(self) -> dict[str, Any]:
        command: dict[str, Any] = self.facts["command"]
        return command

    @property
    def cwd(self) -> bytes | None:
        cwd: bytes | None = self.facts["cwd"]
        return cwd

    def forget(self) -> None:
        """Keeps of a job that is over what a request that crossed its end may ask for."""
        self.env = {}
        self.facts["command"] = _shortened(self.command)


def _shortened(command: dict[str, Any]) -> dict[str, Any]:
    """The beginning of a command that takes much memory."""
    if "argv" not in command:
        return {kind: words[:REMEMBERED_COMMAND] for kind, words in command.items()}
    left, argv = REMEMBERED_COMMAND, []
    for word in command["argv"]:
        argv.append(word[:left])
        left -= len(word) + _WORD_SIZE
        if left <= 0:
            break
    return {"argv": argv}
