"""Notes of the jobs that were started from here to be kept elsewhere: ``<state>/known/<id>.json``.

A note says where a job is, never how it stands: that only its target knows.
"""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated

import msgspec

from remit import JobInfo, JobState, TargetError
from remit._plugins import plugins
from remit._target import parse_target
from remit._wire.names import is_job_id
from remit.cli import _state
from remit.cli._report import say

_SUFFIX = ".json"


class Note(msgspec.Struct, kw_only=True, frozen=True):
    """What is known here of a job that is kept on ``target``."""

    id: str
    target: str
    name: str | None = None
    group: str | None = None
    command: str | tuple[str, ...] = ""
    location: str = ""
    created: Annotated[datetime, msgspec.Meta(tz=True)]

    def unreachable(self, problem: str) -> JobInfo:
        """The job while its target cannot be asked: it may well run on."""
        same = {name: getattr(self, name) for name in ("id", "name", "group", "command", "created")}
        return JobInfo(
            **same,
            state=JobState.DISCONNECTED,
            location=self.location or self.target,
            placement="keep",
            lifetime="detached",
            has_more_data=True,
            problem=problem,
        )

    def age(self) -> float:
        """Seconds since it was written, by this computer's clock."""
        return (datetime.now(UTC) - self.created).total_seconds()


def write(note: Note) -> None:
    """Notes a job, whole or not at all; a note of the same id is replaced."""
    fresh = f".{note.id}.{os.getpid()}"
    # A surrogate (a byte of a command that is no UTF-8) has no place in JSON.
    clean = msgspec.structs.replace(note, command=_printable(note.command))
    try:
        with _state.opened("known", create=True) as known:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
            with open(os.open(fresh, flags, 0o600, dir_fd=known), "wb") as file:
                file.write(msgspec.json.encode(clean) + b"\n")
                file.flush()
                os.fsync(file.fileno())  # else a crash may leave it empty under its name
            os.rename(fresh, note.id + _SUFFIX, src_dir_fd=known, dst_dir_fd=known)
    except OSError as exc:
        raise TargetError(
            f"no note of the job could be written: {exc.strerror}",
            evidence=f"state   {_state.state_directory()}",
            hint="REMIT_STATE_DIR=A_DIRECTORY_OF_YOURS",
        ) from exc


def drop(job_id: str, target: str) -> None:
    """Forgets a job that ``target`` no longer keeps; one that is not known is no error.

    A target names the ids of its own jobs. What it says is no path, and forgets nobody else's job:
    only a note of that very target goes.
    """
    if not is_job_id(job_id):
        return
    with suppress(FileNotFoundError), _state.opened("known") as known:
        note = _read_one(known, job_id + _SUFFIX)
        if note is not None and _place(note.target) == _place(target):
            os.unlink(job_id + _SUFFIX, dir_fd=known)


def _place(target: str) -> object:
    """The same for all ways to write one target: ``web1`` and ``ssh:web1``."""
    try:
        parsed, _ = parse_target(target, plugins())
    except TargetError:
        return target
    return parsed.scheme, parsed.address, parsed.options


def read() -> list[Note]:
    """All notes, the oldest first. One that cannot be read is told of on stderr, and stays."""
    notes = []
    with suppress(FileNotFoundError), _state.opened("known") as known:
        for name in os.listdir(known):
            if name.endswith(_SUFFIX) and is_job_id(name.removesuffix(_SUFFIX)):
                note = _read_one(known, name)
                if note is not None and note.id + _SUFFIX == name:
                    notes.append(note)
                else:
                    _tell_of_bad(name)
    return sorted(notes, key=lambda note: (note.created, note.id))


def _tell_of_bad(name: str) -> None:
    path = os.path.join(_state.state_directory(), "known", name)
    say(f"remit: {path} cannot be read, so where job {name.removesuffix(_SUFFIX)} is kept is")
    say("remit: not known here any more; `remit jobs TARGET` finds it, if you know the target")


def _read_one(known: int, name: str) -> Note | None:
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=known)
        with open(fd, "rb") as file:
            return msgspec.json.decode(file.read(1 << 20), type=Note)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None


def _printable(command: str | tuple[str, ...]) -> str | tuple[str, ...]:
    if isinstance(command, str):
        return command.encode("utf-8", "replace").decode()
    return tuple(word.encode("utf-8", "replace").decode() for word in command)
