"""Removing a job's directory, whatever the job has made in it. Python 3.6."""

from __future__ import annotations

import errno
import os
import stat
from binascii import hexlify

from remit._jobdir import files

_TRIES = 10
# Seconds that a removal waits for whoever has the claim, and may well be stopped.
_PATIENCE = 2.0
# How deep directories are entered that a job has made in its own.
_MAX_NESTED = 32
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


def remove(jobs_fd: int, gone_fd: int, job_id: str, dir_fd: int) -> None:
    """Deletes the job's directory and seals its id; what a crash leaves can be removed again."""
    try:
        files.await_claim(dir_fd, _PATIENCE)  # of whoever is about to take a seal off: `unseal`
    except OSError:
        pass  # no such locks here
    try:
        files.seal(gone_fd, job_id)
    except OSError as exc:
        if exc.errno not in _NO_SPACE:
            raise
        for stream in files.STREAMS:
            files.unlink(dir_fd, stream.encode())
        files.seal(gone_fd, job_id)
    discard(jobs_fd, job_id, dir_fd)


def discard(jobs_fd: int, job_id: str, dir_fd: int) -> None:
    """Deletes the job's directory; its id stays free."""
    for _ in range(_TRIES):
        _empty(dir_fd)
        try:
            os.rmdir(job_id.encode(), dir_fd=jobs_fd)
            return
        except OSError as exc:
            if exc.errno != errno.ENOTEMPTY:
                raise
            # A supervisor that could not write its outcome tries again and again.
    raise OSError(errno.ENOTEMPTY, "files keep appearing while they are deleted")


def _empty(dir_fd: int) -> None:
    """The job may have made anything there, as deep and as odd as it liked."""
    last = {os.fsdecode(files.OUTCOME): 1, os.fsdecode(files.JOB): 2}
    while True:
        names = sorted(os.listdir(dir_fd), key=lambda name: last.get(name, 0))
        for name in names:
            _delete(os.fsencode(name), dir_fd, dir_fd, _MAX_NESTED)
        # What was moved up here meanwhile is still to be deleted.
        if not os.listdir(dir_fd):
            return


def _delete(name: bytes, dir_fd: int, top_fd: int, depth: int) -> None:
    """Deletes a file or a directory; what is nested deeper is moved to ``top_fd``."""
    try:
        files.unlink(dir_fd, name)
        return
    except (IsADirectoryError, PermissionError):
        pass
    if not depth:
        os.rename(name, b".deep-" + hexlify(os.urandom(8)), src_dir_fd=dir_fd, dst_dir_fd=top_fd)
        return
    if not stat.S_ISDIR(os.stat(name, dir_fd=dir_fd, follow_symlinks=False).st_mode):
        raise PermissionError(errno.EPERM, "cannot be deleted", name)
    os.chmod(name, 0o700, dir_fd=dir_fd)
    fd = os.open(name, _OPEN, dir_fd=dir_fd)
    try:
        for each in os.listdir(fd):
            _delete(os.fsencode(each), fd, top_fd, depth - 1)
    finally:
        os.close(fd)
    os.rmdir(name, dir_fd=dir_fd)
