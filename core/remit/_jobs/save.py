"""A file that appears whole or not at all: what `Job.save` writes on this computer."""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncGenerator, AsyncIterable, Callable
from contextlib import asynccontextmanager, suppress
from typing import IO, Any, Final, TypeVar

import anyio
import anyio.to_thread
import attrs

from remit._types import Gap, Record

_T = TypeVar("_T")

STREAMS: Final = ("stdout", "stderr")


def check(stream: str) -> None:
    """Raises ValueError for a stream that is no file's content."""
    if stream not in STREAMS:
        raise ValueError(f"only stdout and stderr can be saved, not {stream!r}")


@attrs.frozen
class Whole:
    """The file while it is being written."""

    path: str
    _file: IO[bytes]

    async def write(self, data: bytes) -> None:
        await _in_thread(self._file.write, data)

    async def begin_again(self) -> None:
        """What was written does not join what comes."""
        await _in_thread(self._empty)

    def _empty(self) -> None:
        self._file.seek(0)
        self._file.truncate()


@asynccontextmanager
async def whole(path: str | os.PathLike[str], stream: str) -> AsyncGenerator[Whole]:
    """A new file beside ``path``, which takes its place, mode and owner at the end of the block.

    Where the block raises, nothing stays behind, and what was there before is as it was. Raises
    OSError, and ValueError for a stream that cannot be saved.
    """
    check(stream)
    to = await _in_thread(_place, path)
    partial = f"{os.path.dirname(to)}/.{os.path.basename(to)[:200]}.{os.urandom(6).hex()}"
    file = await _in_thread(_create, partial)
    try:
        yield Whole(to, file)
        await _in_thread(_finish, file, partial, to)
    except BaseException:
        with anyio.CancelScope(shield=True):
            await _in_thread(_drop, file, partial)
        raise


async def save(path: str | os.PathLike[str], stream: str, records: AsyncIterable[Record]) -> str:
    """As `Job.save`, of what ``records`` has of that stream."""
    async with whole(path, stream) as file:
        async for record in records:
            if record.stream != stream:
                continue
            if isinstance(record.data, Gap):
                await file.begin_again()
                continue
            await file.write(record.data)
    return file.path


async def _in_thread(function: Callable[..., _T], *args: Any) -> _T:
    # Of our own: an application whose threads are all busy does not hold this up.
    return await anyio.to_thread.run_sync(function, *args, limiter=anyio.CapacityLimiter(1))


def _place(path: str | os.PathLike[str]) -> str:
    """Where the file itself is, whatever links lead to it. Raises OSError where it is no file."""
    to = os.path.realpath(path)
    with suppress(FileNotFoundError):
        mode = os.stat(to).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(f"{to} is a directory")
        if not stat.S_ISREG(mode):
            raise FileExistsError(f"{to} exists, and is not a regular file")
    return to


def _create(partial: str) -> IO[bytes]:
    return open(partial, "xb")


def _finish(file: IO[bytes], partial: str, to: str) -> None:
    with file:
        with suppress(FileNotFoundError):
            old = os.stat(to)
            with suppress(OSError):  # another's file in a directory of ours
                os.fchown(file.fileno(), old.st_uid, old.st_gid)
            os.fchmod(file.fileno(), stat.S_IMODE(old.st_mode))
        file.flush()
        os.fsync(file.fileno())
    os.rename(partial, to)
    directory = os.open(os.path.dirname(to), os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):  # not every file system has this
            os.fsync(directory)
    finally:
        os.close(directory)


def _drop(file: IO[bytes], partial: str) -> None:
    with suppress(OSError):
        file.close()  # what it still holds may find no room either
    with suppress(FileNotFoundError):
        os.unlink(partial)
