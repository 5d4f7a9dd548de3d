"""What a function reaches beside its own code, and whether that is still what it was."""

from __future__ import annotations

import dis
import functools
import logging
import re
from collections.abc import Callable, Iterator
from types import BuiltinFunctionType, CellType, CodeType, FunctionType, ModuleType
from typing import Any

import attrs

# What can never change, or goes by its name, and may be kept for as long as need be.
_ATOMS = frozenset(
    {
        type(None),
        bool,
        int,
        float,
        complex,
        str,
        bytes,
        type(Ellipsis),
        re.Pattern,
        logging.Logger,
        logging.RootLogger,
    }
)
# LOAD_NAME is how the body of a class looks names up.
_LOADS = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"})


class _Missing:
    """Stands for what is not there: a global that is a builtin, a cell that is still empty."""


MISSING = _Missing()


@functools.lru_cache(maxsize=256)
def global_names(code: CodeType) -> tuple[str, ...]:
    """The names that it, and all code inside it, looks up among globals and builtins."""
    names = {
        step.argval: None
        for inner in code_within(code)
        for step in dis.get_instructions(inner)
        if step.opname in _LOADS
    }
    return tuple(names)


def code_within(code: CodeType) -> Iterator[CodeType]:
    """The code itself, and that of all functions and classes inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from code_within(constant)


def captured_globals(function: FunctionType) -> dict[str, Any]:
    """The globals that it uses, those that are builtins left out."""
    known = function.__globals__
    return {name: known[name] for name in global_names(function.__code__) if name in known}


def captured_cells(function: FunctionType) -> dict[str, Any]:
    """The variables of the functions around it that it uses; MISSING where not yet set."""
    names = function.__code__.co_freevars
    return {
        name: _contents(cell) for name, cell in zip(names, function.__closure__ or (), strict=True)
    }


def _contents(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return MISSING


@attrs.frozen
class _Part:
    """One function as it was. ``function`` is None for the one that was asked about: another one
    of the same code and captures does as well."""

    function: Any
    code: CodeType
    globals: dict[str, Any]
    defaults: tuple[Any, ...] | None
    keywords: tuple[tuple[str, Any], ...]
    used: tuple[tuple[str, Any], ...]
    cells: tuple[Any, ...]

    @classmethod
    def of(cls, function: FunctionType, root: bool) -> _Part:
        code, known = function.__code__, function.__globals__
        return cls(
            None if root else function,
            code,
            known,
            function.__defaults__,
            tuple((function.__kwdefaults__ or {}).items()),
            tuple((name, known.get(name, MISSING)) for name in global_names(code)),
            tuple(map(_contents, function.__closure__ or ())),
        )

    def values(self) -> Iterator[Any]:
        yield from self.defaults or ()
        yield from (value for _, value in self.keywords)
        yield from (value for _, value in self.used)
        yield from self.cells

    def holds(self, asked: FunctionType) -> bool:
        function = asked if self.function is None else self.function
        known = function.__globals__
        if (
            function.__code__ is not self.code
            or known is not self.globals
            or function.__defaults__ is not self.defaults
            or function.__dict__
        ):
            return False
        for name, value in self.used:
            if known.get(name, MISSING) is not value:
                return False
        keywords = function.__kwdefaults__ or {}
        if len(keywords) != len(self.keywords):
            return False
        for name, value in self.keywords:
            if keywords.get(name, MISSING) is not value:
                return False
        if self.cells:
            for cell, value in zip(function.__closure__ or (), self.cells, strict=True):
                if _contents(cell) is not value:
                    return False
        return True


class Snapshot:
    """All that a function reaches, by identity. Only what cannot change within is in one."""

    def __init__(self, parts: list[_Part]) -> None:
        self._parts = parts

    def holds(self, function: FunctionType) -> bool:
        """Whether it reaches the very same things still."""
        for part in self._parts:  # noqa: SIM110 (this is asked at each call)
            if not part.holds(function):
                return False
        return True


def snapshot(function: FunctionType, is_fixed: Callable[[Any], bool]) -> Snapshot | None:
    """None where something in reach can change without becoming another object.

    ``is_fixed`` tells of a module, class or function whether it goes by name, so that what it
    holds does not matter. Annotations are not looked at: no call depends on them.
    """
    parts: dict[FunctionType, _Part] = {}
    waiting = [function]
    while waiting:
        now = waiting.pop()
        if now in parts:
            continue
        if now.__dict__:
            return None
        parts[now] = _Part.of(now, root=now is function)
        for value in parts[now].values():
            if _is_constant(value) or value is MISSING:
                continue
            if isinstance(value, FunctionType | BuiltinFunctionType | ModuleType | type):
                if is_fixed(value):
                    continue
                if isinstance(value, FunctionType):
                    waiting.append(value)
                    continue
            return None
    return Snapshot(list(parts.values()))


def _is_constant(value: Any) -> bool:
    if type(value) in (tuple, frozenset):
        return all(map(_is_constant, value))
    return type(value) in _ATOMS
