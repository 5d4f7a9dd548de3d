"""Where remit keeps its own things on this computer: the agent's rules, for the command line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from remit import TargetError
from remit._jobdir import statedir
from remit._wire.refusal import Refused


@contextmanager
def refusals() -> Iterator[None]:
    """The agent's own code, run here, refuses in its own way: as an error of remit's."""
    try:
        yield
    except Refused as exc:
        raise TargetError(exc.message, hint=exc.hint or "") from exc


def state_directory() -> str:
    """The path of the state directory; nothing is made."""
    with refusals():
        return os.fsdecode(statedir.choose(None))


@contextmanager
def opened(name: str, *, create: bool = False) -> Iterator[int]:
    """A descriptor of the directory ``name`` in the state directory, safe to trust.

    Raises FileNotFoundError where it is missing and is not to be made, TargetError where others
    could write in it: what is read there says which programs are run.
    """
    path = os.fsencode(state_directory())
    with refusals():
        if create:
            statedir.make_parents(path)
        top = statedir.open_directory(path, None, path)
        try:
            if create:
                statedir.make_directory(os.fsencode(name), top)
            inner = os.fsencode(name)
            fd = statedir.open_directory(inner, top, os.path.join(path, inner))
        finally:
            os.close(top)
    try:
        yield fd
    finally:
        os.close(fd)


def names(name: str) -> list[str]:
    """What the directory ``name`` in the state directory holds; nothing where it is missing."""
    try:
        with opened(name) as directory:
            return os.listdir(directory)
    except FileNotFoundError:
        return []
