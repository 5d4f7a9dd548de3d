"""What both ends must agree on, and what several modules need, stands in one place."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple, get_args

from remit._jobs import options
from remit._wire import calls, credit, names, requests, streams
from test_layers import CORE_MODULES

HOMES: dict[Any, tuple[str, ...]] = {
    streams: ("STDIN", "STDOUT", "STDERR", "RECORDS", "TASK", "STDERR_TAIL", "MAX_SIZE"),
    calls: ("PROGRAM", "CALL", "FORGET", "VALUE", "FAILED", "PICKLED", "DIED", "TAIL", "MOST"),
    credit: ("LEAST_CHARGE",),
    requests: ("STOP_GRACE", "MAX_PAGE", "MOST_SECONDS", "MOST_OUTPUT"),
}
HOME = {
    (name, getattr(module, name)): module.__name__
    for module, found in HOMES.items()
    for name in found
}
# Words of which one is chosen, and lists that go together.
CHOICES: dict[tuple[object, ...], str] = {
    requests.LIFETIMES: requests.__name__,
    requests.LEFTOVERS: requests.__name__,
    requests.ON_MAX: requests.__name__,
    tuple(streams.NAMES.values()): streams.__name__,
}
# How the end of a process is told apart.
STATUS = {"WIFSIGNALED", "WIFEXITED", "WTERMSIG", "WEXITSTATUS", "WCOREDUMP", "Signals"}


class Parsed(NamedTuple):
    name: str
    tree: ast.Module


MODULES = [Parsed(module.name, module.tree) for module in CORE_MODULES]


def assigned(tree: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    """The names of a module that are given a value, and how that is written."""
    for node in tree.body:
        if not isinstance(node, ast.Assign):
            continue
        for target in node.targets:
            if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                pairs = zip(target.elts, node.value.elts, strict=True)
            else:
                pairs = zip([target], [node.value], strict=True)
            yield from ((to.id, value) for to, value in pairs if isinstance(to, ast.Name))


def number(value: ast.expr) -> object:
    """What an expression of numbers alone comes to; None for any other."""
    kinds = (ast.Constant, ast.BinOp, ast.UnaryOp, ast.operator, ast.unaryop)
    if not all(isinstance(node, kinds) for node in ast.walk(value)):
        return None
    return eval(compile(ast.Expression(value), "", "eval"), {})


def test_numbers_that_are_agreed_on_stand_once() -> None:
    again = [
        f"{module.name}: {name} is said by {home}"
        for module in MODULES
        for name, value in assigned(module.tree)
        if (home := HOME.get((name.lstrip("_"), number(value)))) not in (None, module.name)
    ]
    assert again == []


def words(tree: ast.Module) -> Iterator[tuple[object, ...]]:
    """Strings that stand in one list, and the values of one map."""
    for node in ast.walk(tree):
        items = node.values if isinstance(node, ast.Dict) else getattr(node, "elts", [])
        found = [item.value for item in items if isinstance(item, ast.Constant)]
        if found and len(found) == len(items):
            yield tuple(found)


# For type checkers choices have to be written out; a test compares them.
WRITTEN_OUT = {"remit._jobs.options"}


def test_choices_stand_once() -> None:
    again = [
        f"{module.name}: {found} is said by {home}"
        for module in MODULES
        if module.name not in WRITTEN_OUT
        for found in words(module.tree)
        if (home := CHOICES.get(found)) not in (None, module.name)
    ]
    assert again == []


def test_one_module_knows_how_a_process_ended() -> None:
    users = defaultdict[str, set[str]](set)
    for module in MODULES:
        for node in ast.walk(module.tree):
            # What is called or looked up in: as a type anybody may name it.
            used = getattr(node, "func", None)
            if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load):
                used = node.value
            name = getattr(used, "attr", None) or getattr(used, "id", None)
            if name in STATUS:
                users[module.name].add(name)
    assert set(users) == {"remit._wire.ended"}


def test_one_module_knows_the_letters_of_ids() -> None:
    letters = names._LETTERS
    found = [
        module.name
        for module in MODULES
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Constant) and node.value == letters
    ]
    assert found == [names.__name__]


def test_type_checkers_are_told_of_the_same_choices() -> None:
    assert get_args(options.Leftovers) == requests.LEFTOVERS
    assert get_args(options.OnMax) == requests.ON_MAX
    assert set(get_args(options.Lifetime)) == set(requests.LIFETIMES) - {"lease"}
