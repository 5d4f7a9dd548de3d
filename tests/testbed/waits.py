"""Waiting for what happens, on either event loop, by what the kernel tells of it."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import anyio

_IN_MOVED_TO, _IN_CREATE = 0x80, 0x100
_libc = ctypes.CDLL(None, use_errno=True)


async def gone(*pids: int, within: float = 30.0) -> None:
    """Until all have ended; who has ended and was not reaped yet counts. Raises TimeoutError."""
    with anyio.fail_after(within):
        for pid in pids:
            with _ends(pid) as fd:
                if fd is not None:
                    await anyio.wait_readable(fd)


async def any_gone(pids: list[int], within: float = 30.0) -> None:
    """Until one of them has ended. Raises TimeoutError."""
    with anyio.fail_after(within), ExitStack() as opened:
        found = [opened.enter_context(_ends(pid)) for pid in pids]
        if None in found:
            return
        async with anyio.create_task_group() as tasks:

            async def one(fd: int) -> None:
                await anyio.wait_readable(fd)
                tasks.cancel_scope.cancel()

            for fd in found:
                assert fd is not None
                tasks.start_soon(one, fd)


async def there(path: Path, within: float = 30.0) -> None:
    """Until there is such a file; its directory has to be. Raises TimeoutError."""
    fd = _libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
    assert fd >= 0, os.strerror(ctypes.get_errno())
    try:
        watched = _libc.inotify_add_watch(fd, os.fsencode(path.parent), _IN_CREATE | _IN_MOVED_TO)
        assert watched >= 0, os.strerror(ctypes.get_errno())
        with anyio.fail_after(within):
            while not path.exists():
                await anyio.wait_readable(fd)
                os.read(fd, 1 << 16)
    finally:
        os.close(fd)


@contextmanager
def _ends(pid: int) -> Iterator[int | None]:
    """Readable once the process has ended; None where it is not there."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        yield None
        return
    try:
        yield fd
    finally:
        os.close(fd)
