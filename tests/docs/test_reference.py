"""The reference leaves nothing out: public names, hooks, commands with their options."""

import inspect
import re
from collections.abc import Callable
from operator import attrgetter
from typing import Any

import pytest

import remit
from docs import index
from docs.pages import ROOT, reference
from remit import _hookspecs, abc, testing
from remit.cli._commands import commands

REFERENCE = reference()
PLUGINS = (ROOT / "docs" / "plugin-reference.md").read_text(encoding="utf-8")
HOW = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
_HOOKS = [value for name, value in vars(_hookspecs).items() if name.startswith("remit_")]
_COMMANDS = commands()


def signature(function: Callable[..., Any]) -> str:
    """As a person would write it: ``remit_commands() -> list[click.Command]``."""
    written = inspect.signature(function)
    return f"{function.__name__}{written}".replace("'", "")


@pytest.mark.parametrize("hook", _HOOKS, ids=lambda hook: hook.__name__)
def test_each_hook_has_a_heading_that_is_its_signature(hook: Callable[..., Any]) -> None:
    assert f"### `{signature(hook)}`\n" in REFERENCE


def test_no_hook_is_told_of_that_is_not_there() -> None:
    told = re.findall(r"^### `(remit_\w+)", REFERENCE, re.MULTILINE)
    assert told == [hook.__name__ for hook in _HOOKS]


@pytest.mark.parametrize("name", [name for name in remit.__all__ if name not in vars(abc)])
def test_each_public_name_is_told_of(name: str) -> None:
    assert re.search(rf"`(?:remit\.)?{name}\b", REFERENCE)


@pytest.mark.parametrize(
    "name", [n for n, v in vars(abc).items() if getattr(v, "__module__", "") == "remit.abc"]
)
def test_each_protocol_is_told_of_to_plugin_authors(name: str) -> None:
    for text in (PLUGINS, HOW):
        assert re.search(rf"`(?:remit\.abc\.)?{name}\b", text)


# Fakes have what the protocols say, and test classes pytest's mark.
_OF_PROTOCOLS = {"pytestmark"}.union(*map(vars, (abc.Transport, abc.Channel)))


@pytest.mark.parametrize("name", [*abc.__all__, *testing.__all__])
def test_what_plugins_hold_is_described_with_all_its_members(name: str) -> None:
    _, found, text = PLUGINS.partition(f"{name}")
    assert found, name
    kind = getattr(abc, name, None) or getattr(testing, name)
    for member in vars(kind) if inspect.isclass(kind) else ():
        known = member.startswith("_") or member in _OF_PROTOCOLS
        assert known or re.search(rf"\b{member}\b", text), member


def test_the_index_has_all_names() -> None:
    assert index.stands() == index.index(), "in tests/: python -m docs.index"


_CALLS = re.findall(r"`(remit\.[\w.]+)(\([^`…]*\))`", REFERENCE + HOW)


@pytest.mark.parametrize(("name", "written"), sorted(set(_CALLS)))
def test_a_signature_that_is_written_down_is_the_one_of_the_code(name: str, written: str) -> None:
    function = attrgetter(name.removeprefix("remit."))(remit)
    assert written == _without_types(function)


def _without_types(function: Callable[..., Any]) -> str:
    written = inspect.signature(function)
    bare = [p.replace(annotation=p.empty) for p in written.parameters.values()]
    return str(written.replace(parameters=bare, return_annotation=written.empty)).replace("'", '"')


@pytest.mark.parametrize("function", [remit.connect, remit.Session.start, remit.Job.receive])
def test_each_parameter_is_told_of(function: Callable[..., Any]) -> None:
    for name in inspect.signature(function).parameters:
        assert name in ("self", "args") or re.search(rf"`{name}\b", REFERENCE), name


@pytest.mark.parametrize("kind", [remit.Session, remit.Job, remit.Record, remit.JobInfo])
def test_each_public_member_is_told_of(kind: type) -> None:
    fields = [field.name for field in getattr(kind, "__attrs_attrs__", ())]
    for name in {*vars(kind), *fields}:
        assert name.startswith("_") or re.search(rf"`[^`\n]*\b{name}\b", REFERENCE), name


@pytest.mark.parametrize("name", _COMMANDS)
def test_each_command_and_each_of_its_options_is_told_of(name: str) -> None:
    _, _, rest = REFERENCE.partition(f"### `remit {name}")
    assert rest, f"no heading `remit {name}`"
    text = re.split(r"\n##+ ", rest, maxsplit=1)[0]
    for parameter in _COMMANDS[name].params:
        for option in (*parameter.opts, *parameter.secondary_opts):
            assert not option.startswith("--") or option == "--help" or f"`{option}" in text, option


def test_no_command_is_told_of_that_is_not_there() -> None:
    told = re.findall(r"^### `remit (\w+)", REFERENCE, re.MULTILINE)
    assert sorted(told) == sorted(_COMMANDS)
