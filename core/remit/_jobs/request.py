"""What is asked for at a start: checked here, before anything is sent. No I/O but `os.getcwd`."""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, Callable, Mapping, Sequence
from typing import Any

import attrs

from remit._amounts import count, seconds
from remit._errors import TargetError
from remit._jobs.options import StartSettings, Word, Work
from remit._types import PIPE, Lease, Pipe, new_job_id
from remit._wire.names import NAME_WORDS, is_job_id, is_name
from remit._wire.requests import JOB_FIELDS, LEFTOVERS, ON_MAX
from remit.abc import Placement

FULL = ("spill", "block", "drop")


@attrs.frozen
class Function:
    """A function that is to run as a job. ``python`` is the interpreter there."""

    call: Callable[..., Any]
    args: tuple[Any, ...]
    python: str | None

    @property
    def name(self) -> str:
        named = getattr(self.call, "func", self.call)
        return str(getattr(named, "__qualname__", type(named).__qualname__))


@attrs.frozen
class Start:
    """A start that can be right: everything in it, and in its ``settings``, has been checked."""

    id: str
    work: str | tuple[str, ...] | Function
    placement: Placement
    lifetime: str
    cwd: bytes | None
    env: Mapping[bytes, bytes | None]
    limits: Mapping[str, Any]
    settings: StartSettings

    @classmethod
    def of(
        cls,
        work: Work,
        args: tuple[Any, ...],
        settings: StartSettings,
        placement: Placement,
        here: bool,
    ) -> Start:
        """Checks all. ``here``: without a ``cwd`` the caller's is meant. Raises ValueError or
        TypeError saying what cannot be right."""
        settings = _checked(settings, placement)
        if settings.login and not isinstance(work, str):
            raise ValueError("login=True is for a line, a str: the login shell is to run it")
        if settings.on_max == "truncate" and callable(work):
            raise ValueError(
                "records of a function cannot be truncated; on_max='stop' is available"
            )
        start = cls(
            id=_id(settings.id),
            work=_work(work, args, settings.python),
            placement=placement,
            lifetime=_lifetime(settings.lifetime, placement),
            cwd=_cwd(settings.cwd, here),
            env={},
            limits=_limits(settings, placement),
            settings=settings,
        )
        return attrs.evolve(start, env=environment(settings.env, start))

    def arguments(self) -> dict[str, Any]:
        """The fields of the `start` verb, but for those of functions: docs/wire.md."""
        said = {
            "id": self.id,
            "command": _command(self.work, login=self.settings.login),
            "cwd": self.cwd,
            "env": self.env,
            "placement": self.placement.name,
            "spool": self.placement.spools,
            "lifetime": self.lifetime,
            "stdin": self.settings.stdin is not None,
            "limits": dict(self.limits),
        }
        # All else goes under the name that it has here.
        same = [field.name for field in JOB_FIELDS if field.name not in said]
        return said | {name: getattr(self.settings, name) for name in same}


def environment(env: Mapping[str, str | None] | None, start: Start) -> dict[bytes, bytes | None]:
    """``env`` for that job. Raises ValueError and TypeError for what it cannot be."""
    if isinstance(start.work, Function) and not start.placement.spools:
        _no_start_variables(env or {})
    return _env(env)


def check_words(
    work: Work, *, name: str | None, cwd: Word | None, env: Mapping[str, str | None] | None
) -> None:
    """Raises what a start of a command by these words would, before there is a session."""
    _work(work, (), None)
    _name(name)
    _cwd(cwd, here=False)
    _env(env)


def _checked(settings: StartSettings, placement: Placement) -> StartSettings:
    """With its numbers as numbers. Raises ValueError and TypeError."""
    if settings.full not in FULL:
        raise ValueError(f"full must be one of {', '.join(FULL)}, not {settings.full!r}")
    if settings.leftovers not in LEFTOVERS:
        raise ValueError(f"leftovers must be 'leave' or 'stop', not {settings.leftovers!r}")
    timeout, max_output = settings.timeout, settings.max_output
    return attrs.evolve(
        settings,
        name=_name(settings.name),
        stdin=_stdin(settings.stdin, placement),
        timeout=None if timeout is None else seconds("timeout", timeout, above=0),
        login=bool(settings.login),
        merge=bool(settings.merge),
        buffer_limit=count("buffer_limit", settings.buffer_limit, least=1, unit="byte"),
        max_output=None if max_output is None else _output(max_output),
    )


def _output(most: int) -> int:
    return count("max_output", most, least=1, unit="byte")


def _id(id: str | None) -> str:
    if id is None:
        return new_job_id()
    if not is_job_id(id):
        raise ValueError(f"a job id is 'j' and 12 of a-z2-7 (remit.new_job_id()), not {id!r}")
    return id


def own_directory() -> bytes:
    """Where the caller is. Raises TargetError where that directory is gone."""
    try:
        return os.getcwdb()
    except FileNotFoundError as exc:
        raise TargetError(
            "the current directory was removed", hint="another one, or a cwd that is absolute"
        ) from exc


def _command(work: str | tuple[str, ...] | Function, *, login: bool) -> dict[str, Any]:
    if isinstance(work, Function):
        return {"function": work.name}
    if isinstance(work, str):
        return {"line": os.fsencode(work), **({"login": True} if login else {})}
    return {"argv": [os.fsencode(word) for word in work]}


def _work(
    work: object, args: tuple[object, ...], python: str | None
) -> str | tuple[str, ...] | Function:
    if callable(work):
        if python is not None and (not python or "\0" in python):
            raise ValueError(
                f"python must be the path or name of an interpreter on the target, not {python!r}"
            )
        return Function(work, args, python)
    if args:
        raise TypeError("arguments after the work are for functions; a command is one sequence")
    if python is not None:
        raise ValueError("python= is for functions; a command names its own program")
    if isinstance(work, str):
        if not work.strip():
            raise ValueError("the command line is empty")
        _no_nul(work, "the command line")
        return work
    if isinstance(work, (bytes, bytearray)) or not isinstance(work, Sequence):
        raise TypeError(f"a command is a sequence of words or a str, not {type(work).__name__}")
    for index, word in enumerate(work):
        if not isinstance(word, (str, bytes, os.PathLike)):
            raise TypeError(
                f"a word of a command is str, bytes or a path: word {index} is "
                f"{word!r}, {type(word).__name__}"
            )
    words = tuple(os.fsdecode(word) for word in work)
    if not words or not words[0]:
        raise ValueError("a command needs a program")
    for word in words:
        _no_nul(word, "a word of the command")
    return words


def _lifetime(lifetime: str | Lease | None, placement: Placement) -> str:
    if lifetime is None:
        return "detached" if placement.spools else "session"
    word = "lease" if isinstance(lifetime, Lease) else lifetime
    if lifetime not in ("session", "detached") and word is lifetime:
        raise ValueError(
            f"lifetime must be 'session', 'detached' or remit.lease(seconds), not {lifetime!r}"
        )
    if word != "session" and not placement.spools:
        raise ValueError(
            f"placement {placement.name!r} sends results to this session, so its jobs cannot be "
            "detached from it; placement='keep' can"
        )
    return word


def _limits(settings: StartSettings, placement: Placement) -> dict[str, Any]:
    """What a kept job's supervisor is to see to beside its time limit. What a return job prints is
    counted here."""
    limits: dict[str, Any] = {}
    on_max, max_output = settings.on_max, settings.max_output
    if isinstance(settings.lifetime, Lease):
        limits["lease"] = settings.lifetime.seconds
    if on_max not in ON_MAX:
        raise ValueError(f"on_max must be one of {', '.join(ON_MAX)}, not {on_max!r}")
    if max_output is None:
        if on_max != "stop":
            raise ValueError(f"on_max={on_max!r} needs a max_output")
        return limits
    if not placement.spools:
        if on_max == "truncate":
            raise ValueError(
                f"on_max='truncate' is for kept jobs; with placement {placement.name!r} "
                "full='drop' keeps the newest buffer_limit bytes"
            )
        return limits
    return {**limits, "max_output": max_output, "on_max": on_max}


def _name(name: str | None) -> str | None:
    if name is None:
        return None
    if not isinstance(name, str):
        raise TypeError(f"a name is a str, not {type(name).__name__}")
    if not is_name(name):
        raise ValueError(NAME_WORDS % (name,))
    return name


def _cwd(cwd: Word | None, here: bool) -> bytes | None:
    if cwd is None:
        return own_directory() if here else None
    if not isinstance(cwd, (str, bytes, os.PathLike)):
        raise TypeError(f"cwd is str, bytes or a path, not {cwd!r}, {type(cwd).__name__}")
    path = os.fsencode(cwd)
    if not path:
        raise ValueError("cwd is empty")
    _no_nul(os.fsdecode(path), "cwd")
    return path


def _env(env: Mapping[str, str | None] | None) -> dict[bytes, bytes | None]:
    checked: dict[bytes, bytes | None] = {}
    if env is not None and not isinstance(env, Mapping):
        raise TypeError(f"env is a mapping of str to str, not {type(env).__name__}")
    for name, value in (env or {}).items():
        if not isinstance(name, str):
            raise TypeError(f"a name in env is a str, not {name!r}, {type(name).__name__}")
        if value is not None and not isinstance(value, str):
            raise TypeError(f"env[{name!r}] is a str, not {value!r}, {type(value).__name__}")
        if not name or "=" in name:
            raise ValueError(f"{name!r} cannot be the name of an environment variable")
        _no_nul(name, "the name of an environment variable")
        if value is not None:
            _no_nul(value, f"the environment variable {name}")
        checked[os.fsencode(name)] = None if value is None else os.fsencode(value)
    return checked


# What Python reads as it starts, and cannot be told later. What else it reads a fork can still be
# told: `remit._worker.environ`.
_READ_AT_START = frozenset(
    "PYTHON" + name
    for name in (
        *("COERCECLOCALE", "DEBUG", "DEVMODE", "EXECUTABLE", "HASHSEED", "HOME", "INSPECT"),
        *("LEGACYWINDOWSFSENCODING", "MALLOC", "MALLOCSTATS", "NODEBUGRANGES", "NOUSERSITE"),
        *("OPTIMIZE", "PERFSUPPORT", "PLATLIBDIR", "PROFILEIMPORTTIME", "SAFEPATH", "USERBASE"),
        *("UTF8", "VERBOSE", "WARNDEFAULTENCODING", "_FROZEN_MODULES", "_GIL", "_JIT"),
    )
)


def _no_start_variables(env: Mapping[str, str | None]) -> None:
    for name in env:
        if name in _READ_AT_START:
            raise ValueError(
                f"{name} in env has a meaning only where Python starts, and a function whose "
                "results come back runs in a fork of one that has started; with placement='keep' "
                "it gets one of its own"
            )


def _stdin(stdin: object, placement: Placement) -> Any:
    if stdin is PIPE and placement.spools:
        raise ValueError(
            f"stdin=PIPE needs a job whose results come back; with placement {placement.name!r} "
            "give stdin bytes, a file or an async iterable"
        )
    known = isinstance(stdin, (bytes, bytearray, memoryview, Pipe, AsyncIterable))
    if stdin is not None and not known and not hasattr(stdin, "read"):
        raise TypeError(
            "stdin is bytes, an open binary file, an async iterable of bytes, remit.PIPE or None, "
            f"not {type(stdin).__name__}"
        )
    return stdin


def _no_nul(text: str, what: str) -> None:
    if "\0" in text:
        raise ValueError(f"{what} holds a NUL character: {text!r}")
