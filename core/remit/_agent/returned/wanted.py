"""What the start of a return job asks for."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

# How much is kept of the command of a job that is over, in bytes, and what a word takes beside its
# own.
REMEMBERED_COMMAND = 1024
_WORD_SIZE = 40


class Wanted:
    def __init__(self, args: dict[str, Any]) -> None:
        """``args`` are the fields of the request."""
        self.id: str = args["id"]
        # Of the job map of docs/wire.md: what stays as it is.
        self.facts: dict[str, Any] = {
            "id": args["id"],
            "name": args["name"],
            "group": args["group"],
            "placement": args["placement"],
            "lifetime": args["lifetime"],
            "location": None,
            "command": args["command"],
            "cwd": args["cwd"],
            "created": time.time(),
        }
        self.env: dict[bytes, bytes] = args["env"]
        self.timeout: float | None = args["timeout"]
        self.takes_all = args["leftovers"] == "stop"  # what it leaves behind ends with it
        self.merge: bool = args["merge"]
        self.stdin: bool = args["stdin"]

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
