"""The job directory, format 1: its files, how they are written whole, and how they are read.

docs/job-directory.md describes the format for everybody else. All functions take a descriptor of
the job's directory. Standard library only, Python 3.6.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from collections import namedtuple
from typing import TYPE_CHECKING

from remit._jobdir import json, statedir
from remit._wire.streams import MAX_SIZE, NAMES

if TYPE_CHECKING:
    from typing import Any

FORMAT = 1

JOB = b"job.json"
PROCESS = b"process.json"
MARKS = b"marks.json"
OUTCOME = b"outcome.json"
EXPIRES = b"expires"
FREED = b"freed.json"
INDEX = b"index"
LOCK = b"lock"
WAKE = b"wake"
ASK = b"ask"
# The last only where the job is a function.
STREAMS = (*NAMES.values(),)
OUTPUTS = STREAMS[:2]

# A command of the largest request there is, each of its bytes escaped; more is nobody's job. All
# other files hold a few words.
MAX_JSON = 8 << 20
_MAX_SMALL = 1 << 16
# Space for the outcome, held from the start so that a full disk cannot keep it from being written.
RESERVED = 16384
_RESERVE = b".outcome"
_MAX_TEXT = 500
_MAX_NAMED = 16
_POLL = 0.01

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_WRITE = os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
# What stands in gone/ID where the id was given up before it ran.
_NEVER_RAN = b"never ran\n"
# Errors that say nothing of a file: it may be there, and read, a moment later.
_PASSING = (
    errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.EINTR, errno.EIO, errno.ESTALE,
)  # fmt: skip


class Unreadable(Exception):
    """A file that is not what format 1 says; ``str()`` tells what is wrong with it."""


class Unavailable(Unreadable):
    """A file that may well be what it should be, but cannot be had here and now."""


def passes(exc: BaseException | None) -> bool:
    """Whether it says nothing of what was to be read: it may be there and whole a moment later."""
    if isinstance(exc, Unavailable):
        exc = exc.__cause__
    return isinstance(exc, OSError) and exc.errno in _PASSING


# -- the index

# One line of fixed width for each piece of output, so that line n begins at byte n * LINE_SIZE.
LINE_SIZE = 64
_LINE = b"%17.6f %-8s %20d %15d\n"
# time float, stream str, offset int, size int
Line = namedtuple("Line", "time stream offset size")


# The latest that fits into its column: the year 2286.
_LATEST = 9999999999.0


def pack_line(time: float, stream: bytes, offset: int, size: int) -> bytes:
    """A time that is none, or has no room there, becomes the nearest that has."""
    # Not a number is neither more nor less.
    time = min(time, _LATEST) if time > 0 else 0.0
    return _LINE % (time, stream, offset, size)


def parse_line(line: bytes) -> Line:
    """Raises Unreadable."""
    try:
        time, stream, offset, size = line.split()
        parsed = Line(float(time), stream.decode("ascii"), int(offset), int(size))
    except ValueError:
        raise _no_line(line) from None
    whole = 0 <= parsed.offset <= MAX_SIZE and 0 <= parsed.size <= MAX_SIZE
    if not (whole and 0 <= parsed.time <= _LATEST):
        raise _no_line(line)
    return parsed


def _no_line(line: bytes) -> Unreadable:
    return Unreadable("a line of the index reads %r" % line[:LINE_SIZE])


# -- JSON files


def read_json(dir_fd: int, name: bytes) -> dict[str, Any]:
    """Raises FileNotFoundError where there is none, and Unreadable."""
    words = name.decode()
    try:
        value = json.loads(_read_small(dir_fd, name))
    except FileNotFoundError:
        raise
    except OSError as exc:
        # A link, or a device that is none.
        kind = Unreadable if exc.errno in (errno.ELOOP, errno.ENXIO, errno.ENODEV) else Unavailable
        raise kind("%s: %s" % (words, exc.strerror)) from exc
    except json.JSONError as exc:
        raise Unreadable("%s: %s" % (words, exc)) from exc
    if not isinstance(value, dict):
        raise Unreadable("%s holds no object" % words)
    return value


def _read_small(dir_fd: int, name: bytes) -> bytes:
    """The whole of an ordinary file. Raises OSError, and JSONError for any other kind."""
    most = MAX_JSON if name == JOB else _MAX_SMALL
    fd = os.open(name, _READ, dir_fd=dir_fd)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise json.JSONError("not a regular file")
        if status.st_size > most:
            raise json.JSONError("larger than %d bytes" % most)
        pieces = []
        size = 0
        while size <= most:
            piece = os.read(fd, 1 << 16)
            if not piece:
                break
            pieces.append(piece)
            size += len(piece)
        # It may have grown as it was read; what is cut here makes no sense.
        return b"".join(pieces)
    finally:
        os.close(fd)


def write_json(dir_fd: int, name: bytes, value: dict[str, Any], durable: bool = True) -> None:
    """Replaces the file whole. ``durable``: it is on the disk, under its name, on return."""
    temporary = b".%s.%d" % (name, os.getpid())
    try:
        fd = os.open(temporary, _WRITE | os.O_CREAT | os.O_TRUNC, 0o600, dir_fd=dir_fd)
        try:
            write_all(fd, json.dumps(value))
            if durable:
                os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(temporary, name, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
    except OSError:
        unlink(dir_fd, temporary)
        raise
    if durable:
        os.fsync(dir_fd)


def write_all(fd: int, data: bytes | bytearray) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(fd, left) :]


def unlink(dir_fd: int, name: bytes) -> None:
    """Removes a file where there is one."""
    try:
        os.unlink(name, dir_fd=dir_fd)
    except FileNotFoundError:
        pass


def higher_format(dir_fd: int) -> bool:
    """Whether a later version of remit made this directory: its business, not ours."""
    try:
        version = read_json(dir_fd, JOB).get("format")
    except (FileNotFoundError, Unreadable):
        return False
    return is_later(version)


def is_later(version: object) -> bool:
    return type(version) is int and version > FORMAT


# -- the beginning


def prepare(dir_fd: int, streams: tuple[str, ...] = OUTPUTS) -> None:
    """Makes all that a supervisor needs, so that a full disk shows before the job runs."""
    for name in (LOCK, INDEX, *(stream.encode() for stream in streams)):
        os.close(os.open(name, _WRITE | os.O_CREAT | os.O_TRUNC, 0o600, dir_fd=dir_fd))
    try:
        os.mkfifo(WAKE, 0o600, dir_fd=dir_fd)
    except FileExistsError:
        pass
    statedir.make_directory(ASK, dir_fd)
    fd = os.open(_RESERVE, _WRITE | os.O_CREAT | os.O_TRUNC, 0o600, dir_fd=dir_fd)
    try:
        # File systems account for what is written, whether it is on the disk yet or not.
        write_all(fd, b" " * RESERVED)
    finally:
        os.close(fd)


def open_output(dir_fd: int, name: bytes) -> int:
    """A descriptor for appending to one of the files that `prepare` made."""
    return os.open(name, _WRITE | os.O_APPEND, dir_fd=dir_fd)


def open_input(dir_fd: int, name: bytes) -> int:
    """A descriptor for reading a file of output. Raises FileNotFoundError and OSError."""
    return os.open(name, _READ, dir_fd=dir_fd)


def claim(dir_fd: int) -> bool:
    """Takes the claim on the directory; False where somebody else has it.

    The claim is an flock on the directory itself; it covers a start until ``process.json`` is
    there, and each change of the marks. It goes with the last copy of ``dir_fd``. Raises OSError
    where the file system has no such locks (NFS locks no directory).
    """
    try:
        fcntl.flock(dir_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def await_claim(dir_fd: int, patience: float) -> bool:
    """As `claim`, waiting for it; False where it was not to be had in so many seconds."""
    deadline = time.monotonic() + patience
    while not claim(dir_fd):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL)
    return True


def unclaim(dir_fd: int) -> None:
    try:
        fcntl.flock(dir_fd, fcntl.LOCK_UN)
    except OSError:
        pass


# -- the end


def write_outcome(dir_fd: int, outcome: dict[str, Any]) -> None:
    """Puts the outcome into the space held for it, on the disk on return, and under its name.

    Raises OSError; it may be tried again then.
    """
    text = json.dumps(_fitting(outcome))
    try:
        _write_reserve(dir_fd, text)
    except OSError:
        # Where what is rewritten goes to new blocks (btrfs) the space held is in the way, and a
        # disk that failed one file may take another.
        unlink(dir_fd, _RESERVE)
        _write_reserve(dir_fd, text)
    os.rename(_RESERVE, OUTCOME, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
    os.fsync(dir_fd)


def _write_reserve(dir_fd: int, text: bytes) -> None:
    fd = os.open(_RESERVE, _WRITE | os.O_CREAT, 0o600, dir_fd=dir_fd)
    try:
        write_all(fd, text)
        os.ftruncate(fd, len(text))
        os.fsync(fd)
    finally:
        os.close(fd)


def _fitting(outcome: dict[str, Any]) -> dict[str, Any]:
    """The outcome with its texts cut so that it always fits into RESERVED bytes."""
    short = dict(outcome)
    for key, value in outcome.items():
        if isinstance(value, str):
            short[key] = value[:_MAX_TEXT]
        elif isinstance(value, list):
            short[key] = [str(item)[:64] for item in value[:_MAX_NAMED]]
            if len(value) > _MAX_NAMED:
                short[key] += ["and %d more" % (len(value) - _MAX_NAMED)]
    return short


# -- what is used up

# position {stream: int}: how far each is used up; reader str or None: who may move that
Marks = namedtuple("Marks", "position reader")


def read_marks(dir_fd: int) -> Marks:
    """Marks that make no sense count as nothing used: twice is better than never.

    Raises Unavailable where they may be read a moment later: they may be anybody's until then.
    """
    try:
        value = read_json(dir_fd, MARKS)
    except (FileNotFoundError, Unreadable) as exc:
        if passes(exc):
            raise
        value = {}
    reader = value.get("reader")
    return Marks(
        {stream: number(value.get(stream)) for stream in STREAMS},
        reader if isinstance(reader, str) else None,
    )


def write_marks(dir_fd: int, marks: Marks) -> None:
    """For the holder of the claim."""
    # Not durable: where the machine dies, a record may come twice.
    write_json(dir_fd, MARKS, dict(marks.position, reader=marks.reader), durable=False)


# stdout, stderr, index int: how many bytes at the start of each file are freed
Freed = namedtuple("Freed", "stdout stderr index")


def read_freed(dir_fd: int) -> Freed:
    """How much of the oldest output is freed, by now; what is read beyond is what was written.

    To be asked after the reading. Raises Unreadable.
    """
    try:
        value = read_json(dir_fd, FREED)
    except FileNotFoundError:
        return Freed(0, 0, 0)
    return Freed(*(number(value.get(name)) for name in Freed._fields))


def number(value: object) -> int:
    """A size from a file that somebody may have edited: 0 where it is none."""
    return value if type(value) is int and 0 < value <= MAX_SIZE else 0


# -- the ids of jobs that are gone


def seal(gone_fd: int, job_id: str) -> None:
    """Leaves the empty file that keeps the id of a removed job from ever running again."""
    fd = os.open(job_id.encode(), _WRITE | os.O_CREAT | os.O_TRUNC, 0o600, dir_fd=gone_fd)
    try:
        os.utime(fd)
    finally:
        os.close(fd)


def seal_unrun(gone_fd: int, job_id: str) -> bool:
    """The same of one that was given up before it ran; False where it was removed before."""
    try:
        fd = os.open(job_id.encode(), _WRITE | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=gone_fd)
    except FileExistsError:
        return was_unrun(gone_fd, job_id)
    try:
        write_all(fd, _NEVER_RAN)
    finally:
        os.close(fd)
    return True


def unseal(jobs_fd: int, gone_fd: int, job_id: str, dir_fd: int) -> None:
    """Takes the mark of `seal_unrun` off a job that did run and is there, or leaves it where nobody
    can tell. For the holder of the claim: who removes the job then waits to seal it."""
    if is_linked(jobs_fd, job_id, dir_fd) and was_unrun(gone_fd, job_id):
        unlink(gone_fd, job_id.encode())


def is_linked(jobs_fd: int, job_id: str, dir_fd: int) -> bool:
    """Whether the directory still has its name: it may have been removed as we opened it."""
    try:
        named = os.stat(job_id.encode(), dir_fd=jobs_fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(named, os.fstat(dir_fd))


def is_sealed(gone_fd: int, job_id: str) -> bool:
    try:
        os.stat(job_id.encode(), dir_fd=gone_fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def was_unrun(gone_fd: int, job_id: str) -> bool:
    """Whether the id is sealed as one that never ran."""
    try:
        fd = os.open(job_id.encode(), _READ, dir_fd=gone_fd)
    except FileNotFoundError:
        return False
    try:
        return os.read(fd, len(_NEVER_RAN)) == _NEVER_RAN
    finally:
        os.close(fd)
