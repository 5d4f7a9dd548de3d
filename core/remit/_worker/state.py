"""What one call may change of the process, and the next, which has nothing to do with it, is not to
find changed. After each call it is compared with what it was at the beginning and put right."""

from __future__ import annotations

import builtins
import gc
import logging
import os
import signal
import sys
import time
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any, Callable

# Of `signal` itself each look at a handler goes through its enums, and takes ten times as long.
_signal: Any = __import__("_signal")
try:
    import resource
except ImportError:  # no part of Python that has to be there
    resource = None  # type: ignore[assignment]
try:
    import _locale
except ImportError:
    _locale = None  # type: ignore[assignment]

_SIGNALS = tuple(range(1, getattr(signal, "NSIG", 65)))
_LIMITS = tuple(getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_"))
_STDIO = ("stdin", "stdout", "stderr", "__stdin__", "__stdout__", "__stderr__")
_HOOKS = ("excepthook", "displayhook")


class State:
    def __init__(self, reopen: Callable[[], object]) -> None:
        """As it is now. ``reopen`` makes new sys.std*."""
        self._reopen = reopen
        self._cwd = _opened(".")
        self._standard = [_duplicate(fd) for fd in range(3)]
        self._parts: list[tuple[Callable[[], Any], Callable[[Any], object] | None, Any]] = []
        for look, repair in self._all():
            self._parts.append((look, repair, look()))

    def _all(self) -> list[tuple[Callable[[], Any], Callable[[Any], object] | None]]:
        """How each thing is looked at, and how it is put right where that can be done."""
        found: list[tuple[Callable[[], Any], Callable[[Any], object] | None]] = [
            (_directory, lambda was: os.fchdir(self._cwd)),
            (_environment, _set_environment),
            (_descriptors, lambda was: self._restore_descriptors()),
            (_streams, self._set_streams),
            (_handlers, _set_handlers),
            (_mask, lambda was: signal.pthread_sigmask(signal.SIG_SETMASK, was)),
            (_timers, _stop_timers),
            (_filters, _set_filters),
            (_interpreter, _set_interpreter),
            (_logging, _set_logging),
            (_umask, os.umask),
            (_account, None),
        ]
        if resource is not None:
            found.append((_limits, _set_limits))
        if _locale is not None:
            found.append((_words, lambda was: _locale.setlocale(_locale.LC_ALL, was)))
        return found

    def repair(self) -> bool:
        """Whether all is as it was, now. Where not, nothing more is to run in this process."""
        for look, repair, was in self._parts:
            try:
                if look() == was:
                    continue
                if repair is None:
                    return False
                repair(was)
                if look() != was:
                    return False
            except Exception:  # what it looks at may have been replaced by anything
                return False
        return True

    def _restore_descriptors(self) -> None:
        for fd, copy in enumerate(self._standard):
            os.dup2(copy, fd)

    def _set_streams(self, was: Any) -> None:
        streams, _ = was
        if any(getattr(stream, "closed", True) for stream in streams):
            self._reopen()
            was[0][:] = [getattr(sys, name) for name in _STDIO]
        else:
            for name, stream in zip(_STDIO, streams):
                setattr(sys, name, stream)


def _opened(path: str) -> int:
    return os.open(path, getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY)


def _duplicate(fd: int) -> int:
    """A copy that is out of the way of who closes what he finds."""
    import fcntl

    try:
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 200)
    except OSError:
        return os.dup(fd)


def _directory() -> Any:
    try:
        here = os.stat(".")
        return here.st_dev, here.st_ino
    except OSError:
        return None


def _environment() -> Any:
    # What it holds itself: a copy by its methods takes twenty times as long.
    return dict(os.environ._data)  # type: ignore[attr-defined]


def _set_environment(was: Any) -> None:
    for name in set(os.environb) - set(was):
        del os.environb[name]
    os.environb.update(was)
    time.tzset()


def _descriptors() -> Any:
    found = []
    for fd in range(3):
        try:
            status = os.fstat(fd)
            found.append((status.st_dev, status.st_ino))
        except OSError:
            found.append((0, 0))
    return found


def _streams() -> Any:
    streams = [getattr(sys, name, None) for name in _STDIO]
    return streams, [getattr(stream, "closed", True) for stream in streams]


def _handlers() -> Any:
    return [*map(_signal.getsignal, _SIGNALS)]


def _set_handlers(was: Any) -> None:
    for signum, handler in zip(_SIGNALS, was):
        if handler is not None and _signal.getsignal(signum) != handler:
            signal.signal(signum, handler)


def _mask() -> Any:
    return signal.pthread_sigmask(signal.SIG_BLOCK, ())


def _timers() -> Any:
    return _signal.getitimer(signal.ITIMER_REAL)[0] == 0.0


def _stop_timers(was: Any) -> None:
    signal.setitimer(signal.ITIMER_REAL, 0.0)


def _filters() -> Any:
    return warnings.filters[:], warnings.showwarning, warnings.formatwarning


def _set_filters(was: Any) -> None:
    filters, warnings.showwarning, warnings.formatwarning = was
    warnings.resetwarnings()
    warnings.filters[:] = filters  # type: ignore[index]


def _interpreter() -> Any:
    return (
        sys.getrecursionlimit(),
        sys.path[:],
        sys.argv[:],
        [getattr(sys, name, None) for name in _HOOKS],
        gc.isenabled(),
        sys.gettrace(),
        sys.getprofile(),
        builtins.print,
        builtins.open,
    )


def _set_interpreter(was: Any) -> None:
    limit, path, argv, hooks, collects, trace, profile, builtins.print, builtins.open = was
    sys.setrecursionlimit(limit)
    sys.path[:] = path
    sys.argv[:] = argv
    for name, value in zip(_HOOKS, hooks):
        setattr(sys, name, value)
    (gc.enable if collects else gc.disable)()
    sys.settrace(trace)
    sys.setprofile(profile)


def _logging() -> Any:
    root = logging.getLogger()
    return root.level, root.handlers[:], root.filters[:], root.disabled, root.manager.disable


def _set_logging(was: Any) -> None:
    root = logging.getLogger()
    root.level, root.handlers[:], root.filters[:], root.disabled, root.manager.disable = was
    for logger in [root, *root.manager.loggerDict.values()]:
        getattr(logger, "_cache", {}).clear()  # which levels are on


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _account() -> Any:
    root = os.stat("/")
    ids = os.getuid(), os.geteuid(), os.getgid(), os.getegid()
    return ids, os.getgroups(), os.getpriority(os.PRIO_PROCESS, 0), root.st_dev, root.st_ino


def _limits() -> Any:
    return [*map(resource.getrlimit, _LIMITS)]


def _set_limits(was: Any) -> None:
    for limit, values in zip(_LIMITS, was):
        if resource.getrlimit(limit) != values:
            resource.setrlimit(limit, values)


def _words() -> Any:
    return _locale.setlocale(_locale.LC_ALL, None)
