"""`remit.blocking` has what `remit` has: names, parameters, overloads, docstrings."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, get_overloads

import pytest

import remit
import remit.blocking

# What speaks of an event loop: for plugins, or with ``await``.
ASYNC_ALONE = {
    "__version__",
    "Executor",
    "Position",
    "Pumped",
    "hookimpl",
    "open_process",
    "open_pump",
}
FOR_PLUGINS = {
    name for name in remit.__all__ if getattr(getattr(remit, name), "__module__", "") == "remit.abc"
}
KINDS = ["Fleet", "Hub", "Job", "JobGroup", "Receiver", "Results", "Session"]
FUNCTIONS = ["connect", "connect_many", "open_hub", "start"]


def test_the_same_names_are_public() -> None:
    assert set(remit.blocking.__all__) == set(remit.__all__) - ASYNC_ALONE - FOR_PLUGINS
    for name in set(remit.blocking.__all__) - {*KINDS, *FUNCTIONS}:
        assert getattr(remit.blocking, name) is getattr(remit, name)


# Spelt with ``async``, and without.
SPELT = {
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "__aiter__": "__iter__",
    "__anext__": "__next__",
}


def members(kind: type) -> list[str]:
    return [
        name
        for name in vars(kind)
        if not name.startswith("_") or name in SPELT or name == "__repr__"
    ]


PAIRS = [(kind, name) for kind in KINDS for name in members(getattr(remit, kind))]


@pytest.mark.parametrize("kind", KINDS)
def test_each_class_has_the_members_of_its_pair(kind: str) -> None:
    ours, theirs = getattr(remit.blocking, kind), getattr(remit, kind)
    assert inspect.getdoc(ours) == inspect.getdoc(theirs)
    wanted = {SPELT.get(name, name) for name in members(theirs)}
    assert wanted <= set(dir(ours))
    assert {name for name in vars(ours) if not name.startswith("_")} <= wanted
    assert (ours.__module__, ours.__qualname__) == ("remit.blocking", kind)


def parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    return list(inspect.signature(function).parameters.values())


@pytest.mark.parametrize(("kind", "name"), [pair for pair in PAIRS if pair[1] not in SPELT])
def test_each_member_is_told_of_and_called_alike(kind: str, name: str) -> None:
    ours = inspect.getattr_static(getattr(remit.blocking, kind), name)
    theirs = inspect.getattr_static(getattr(remit, kind), name)
    if name != "__repr__":
        assert ours.__doc__ == theirs.__doc__
    assert type(ours) is type(theirs)
    if isinstance(theirs, property):
        assert ours.fget.__annotations__ == theirs.fget.__annotations__
        return
    if isinstance(theirs, classmethod):
        ours, theirs = ours.__func__, theirs.__func__
    assert parameters(ours) == parameters(theirs)
    assert not inspect.iscoroutinefunction(ours)
    returned = theirs.__annotations__["return"].replace("AsyncIterator", "Iterator")
    assert ours.__annotations__["return"] == returned
    assert_same_overloads(ours, theirs)


def assert_same_overloads(ours: Callable[..., Any], theirs: Callable[..., Any]) -> None:
    pairs = zip(get_overloads(ours), get_overloads(theirs), strict=True)
    for our, their in pairs:
        assert parameters(our) == parameters(their)
        returned = their.__annotations__["return"].replace("AbstractAsync", "Abstract")
        assert our.__annotations__["return"] == returned


@pytest.mark.parametrize("name", FUNCTIONS)
def test_each_function_is_told_of_and_called_alike(name: str) -> None:
    ours, theirs = getattr(remit.blocking, name), getattr(remit, name)
    assert (ours.__doc__, ours.__module__) == (theirs.__doc__, "remit.blocking")
    assert parameters(ours) == parameters(theirs)
    assert_same_overloads(inspect.unwrap(ours), inspect.unwrap(theirs))
