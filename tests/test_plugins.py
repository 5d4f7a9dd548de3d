"""Plugins: found, asked once, and a faulty one reported by name without hurting the others."""

import sys
import threading
import types
from collections.abc import Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import attrs
import pytest

from remit import JobInfo, JobState, TargetError
from remit._hookspecs import hookimpl
from remit._plugins import Plugins, PluginWarning
from remit.abc import ByteStream, Channel, Placement, ResultStore, Target, Transport

GOOD = """
import attrs, remit

@attrs.frozen
class Carrier:
    scheme: str = "good"
    api: int = 1
    def open(self, target, argv):
        raise NotImplementedError

@remit.hookimpl
def remit_transports():
    return [Carrier()]
"""
# What each does wrong, and what is said of it.
FAULTY = {
    "raises": ("raise LookupError('not today')", "LookupError: not today"),
    "imports": ("import no_such_module_at_all", "ModuleNotFoundError"),
    "exits": ("import sys; sys.exit(3)", "SystemExit: 3"),
    "syntax": ("def", "SyntaxError"),
    "hook": ("import remit\n@remit.hookimpl\ndef remit_of_a_later_version(): pass", "unknown hook"),
    "argument": (
        "import remit\n@remit.hookimpl\ndef remit_transports(surprise): pass",
        "Argument(s) {'surprise'}",
    ),
    "answer": ("import remit\n@remit.hookimpl\ndef remit_transports(): return None", "TypeError"),
    "item": (
        "import remit\n@remit.hookimpl\ndef remit_transports(): return ['x']",
        "TypeError: 'x' is not a Transport",
    ),
    "late": (
        "import remit\n@remit.hookimpl\ndef remit_transports(): raise OSError('busy')",
        "OSError: busy",
    ),
    "api": (
        GOOD.replace('"good"', '"newer"').replace("api: int = 1", "api: int = 2"),
        "is of api 2, this remit speaks 1",
    ),
    "property": (
        GOOD.replace('    scheme: str = "good"\n', "").replace(
            "    def open", "    @property\n    def scheme(self): raise OSError('no')\n    def open"
        ),
        "OSError: no",
    ),
}


@attrs.frozen
class Carrier:
    scheme: str = "carrier"
    api: int = 1

    def open(self, target: Target, argv: Sequence[str]) -> AbstractAsyncContextManager[ByteStream]:
        raise NotImplementedError


@attrs.frozen
class Place:
    name: str = "place"
    api: int = 1
    spools: bool = False

    def open_store(self, job: JobInfo, channel: Channel) -> ResultStore:
        raise NotImplementedError


class Plugin:
    @hookimpl
    def remit_transports(self) -> list[Transport]:
        return [Carrier()]

    @hookimpl
    def remit_placements(self) -> list[Placement]:
        return [Place()]


@contextmanager
def installed(directory: Path, sources: dict[str, str]) -> Iterator[list[EntryPoint]]:
    """Modules with these sources, and the entry points that lead to them, in order."""
    names = [f"remit_test_{name}" for name in sources]
    for name, source in zip(names, sources.values(), strict=True):
        (directory / f"{name}.py").write_text(source)
    sys.path.insert(0, str(directory))
    try:
        yield [
            EntryPoint(name, module, "remit") for name, module in zip(sources, names, strict=True)
        ]
    finally:
        sys.path.remove(str(directory))
        for name in names:
            sys.modules.pop(name, None)


@pytest.mark.parametrize("fault", FAULTY)
def test_a_faulty_plugin_is_reported_by_name_and_hurts_no_other(fault: str, tmp_path: Path) -> None:
    source, said = FAULTY[fault]
    before = GOOD.replace('"good"', '"before"')
    sources = {"before": before, "bad": source, "good": GOOD}
    with (
        installed(tmp_path, sources) as found,
        pytest.warns(PluginWarning, match="remit plugin 'bad' is faulty"),
    ):
        plugins = Plugins(found)
    assert set(plugins.transports) == {"before", "good"}
    (faulty,) = plugins.faulty
    assert faulty.name == "bad"
    assert said in faulty.problem


def test_two_plugins_of_one_scheme_the_first_keeps_it(tmp_path: Path) -> None:
    with (
        installed(tmp_path, {"first": GOOD, "second": GOOD}) as found,
        pytest.warns(PluginWarning, match="'second' is faulty: TypeError: 'good' is taken"),
    ):
        plugins = Plugins(found)
    assert type(plugins.transport("good")).__module__ == "remit_test_first"


def test_two_plugins_of_one_name_the_first_keeps_it(tmp_path: Path) -> None:
    with installed(tmp_path, {"good": GOOD}) as found:
        with pytest.warns(PluginWarning, match="'good' is faulty: ValueError"):
            plugins = Plugins([*found, *found])
        assert set(plugins.transports) == {"good"}


def test_what_a_plugin_brings_is_found_by_name() -> None:
    plugins = Plugins([])
    plugins.add(Plugin(), "test")
    assert plugins.transport("carrier") == Carrier()
    assert plugins.placement("place") == Place()
    assert plugins.bare_word_transport() is None
    assert plugins.faulty == []


def test_a_plugin_added_later_leaves_the_earlier_as_they_are() -> None:
    plugins = Plugins([])
    plugins.add(Plugin(), "test")
    first = plugins.transport("carrier")

    class Later:
        @hookimpl
        def remit_transports(self) -> list[Transport]:
            return [Carrier(scheme="later")]

    plugins.add(Later(), "later")
    assert plugins.transport("carrier") is first
    assert plugins.transport("later").scheme == "later"


def test_what_is_not_there_is_named_with_what_is() -> None:
    plugins = Plugins([])
    with pytest.raises(TargetError, match="known   none"):
        plugins.transport("carrier")
    plugins.add(Plugin(), "test")
    with pytest.raises(TargetError, match="known   carrier:"):
        plugins.transport("ship")
    with pytest.raises(ValueError, match="no placement is called 'away'; there are: 'place'"):
        plugins.placement("away")


def test_a_listener_that_raises_is_reported_and_the_rest_are_told() -> None:
    told: list[tuple[Any, ...]] = []

    class Bad:
        @hookimpl
        def remit_job_changed(self, new: JobState) -> None:
            raise LookupError("not today")

    class Good:
        @hookimpl
        def remit_job_changed(self, old: JobState | None, new: JobState) -> None:
            told.append((old, new))

    plugins = Plugins([])
    for name, plugin in (("one", Good()), ("bad", Bad()), ("two", Good())):
        plugins.add(plugin, name)
    facts: dict[str, Any] = {"job": None, "old": None, "new": JobState.RUNNING}
    with pytest.warns(PluginWarning, match="'bad' is faulty: LookupError: not today"):
        plugins.notify("remit_job_changed", **facts)
    plugins.notify("remit_job_changed", **facts)  # said once, not for each record
    assert told == [(None, JobState.RUNNING)] * 4
    assert plugins.listens("remit_job_changed")
    assert not plugins.listens("remit_record")


class _Dist:
    """The distribution that an entry point came with, as importlib.metadata has it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.version = "1.0"


def _of(point: EntryPoint, dist: str) -> EntryPoint:
    vars(point)["dist"] = _Dist(dist)
    return point


CLAIMS = {
    "a scheme": (GOOD, "'good' is taken by plugin 'ours' of remit 1.0"),
    "bare words": (
        GOOD.replace('"good"', '"other"').replace(
            "api: int = 1", "api: int = 1\n    bare_words = True"
        ),
        "targets without a scheme are taken by plugin 'ours' of remit 1.0; other: works",
    ),
    "a placement": (
        "import attrs, remit\n@attrs.frozen\nclass P:\n    name: str = 'keep'\n    api: int = 1\n"
        "    spools: bool = True\n    def open_store(self, job, channel): ...\n"
        "@remit.hookimpl\ndef remit_placements(): return [P()]\n",
        "'keep' is taken by plugin 'ours' of remit 1.0",
    ),
}
OURS = (
    GOOD.replace("api: int = 1", "api: int = 1\n    bare_words = True")
    + "\n"
    + CLAIMS["a placement"][0].replace("import attrs, remit\n", "")
)


@pytest.mark.parametrize("claim", CLAIMS)
def test_nobody_takes_what_ours_have_whatever_the_order(claim: str, tmp_path: Path) -> None:
    source, said = CLAIMS[claim]
    with installed(tmp_path, {"evil": source, "ours": OURS}) as (evil, ours):
        found = [_of(evil, "evil-package"), _of(ours, "remit")]
        with pytest.warns(PluginWarning, match="remit plugin 'evil' is faulty: TypeError"):
            plugins = Plugins(found)
    assert [fault.name for fault in plugins.faulty] == ["evil"], "the victim is not blamed"
    assert said in plugins.faulty[0].problem
    assert type(plugins.transport("good")).__module__ == "remit_test_ours"
    assert type(plugins.placement("keep")).__module__ == "remit_test_ours"
    assert plugins.bare_word_transport() is plugins.transport("good")


HALF = {
    "a later hook": ("def remit_of_later(job): pass", "unknown hook 'remit_of_later'"),
    "a later argument": (
        "def remit_record(job, record, colour): pass",
        "Argument(s) {'colour'} of hook 'remit_record'",
    ),
    "async": ("async def remit_record(job): pass", "hook 'remit_record' is an async function"),
    "async generator": ("async def remit_record(job):\n    yield", "is an async function"),
    "generator": ("def remit_record(job):\n    yield", "hook 'remit_record' is a generator"),
}


@pytest.mark.parametrize("case", HALF)
def test_a_hook_that_cannot_be_called_costs_that_hook(case: str, tmp_path: Path) -> None:
    source, said = HALF[case]
    source = f"{GOOD}\n@remit.hookimpl\n{source}\n"
    with (
        installed(tmp_path, {"half": source}) as found,
        pytest.warns(PluginWarning, match="'half' is faulty"),
    ):
        plugins = Plugins(found)
    assert set(plugins.transports) == {"good"}, "the rest of it works"
    assert not plugins.listens("remit_record")
    (fault,) = plugins.faulty
    assert said in fault.problem


SHAPES = {
    "a scheme": (GOOD.replace('"good"', '"Good one"'), "is not a scheme"),
    "an empty scheme": (GOOD.replace('"good"', '""'), "is not a scheme"),
    "options": (
        GOOD.replace("api: int = 1", "api: int = 1\n    option_names: str = 'key'"),
        "not a collection of names",
    ),
    "an option of ours": (
        GOOD.replace("api: int = 1", "api: int = 1\n    option_names: tuple = ('state',)"),
        "'state' is an option of remit's own",
    ),
    "api": (GOOD.replace("api: int = 1", "api: object = '1'"), "is of api 1"),
    "a placement": (CLAIMS["a placement"][0].replace("'keep'", "'a b'"), "is not a name for"),
    "spools": (
        CLAIMS["a placement"][0].replace("spools: bool = True", "spools: int = 1"),
        "not a bool",
    ),
}


@pytest.mark.parametrize("case", SHAPES)
def test_what_a_plugin_brings_is_checked_when_it_is_loaded(case: str, tmp_path: Path) -> None:
    source, said = SHAPES[case]
    with (
        installed(tmp_path, {"odd": source}) as found,
        pytest.warns(PluginWarning, match="'odd' is faulty"),
    ):
        plugins = Plugins(found)
    assert not plugins.transports
    assert not plugins.placements
    assert said in plugins.faulty[0].problem


def test_a_plugin_that_takes_long_to_load_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It waits until it has been named: the test ends where it is, and hangs where it is not.
    monkeypatch.setattr("remit._plugins.PATIENCE", 0.01)
    told = threading.Event()
    said: list[str] = []

    def note(text: str, kind: type[Warning]) -> None:
        said.append(text)
        told.set()

    monkeypatch.setattr("remit._plugins.warn", note)
    slow = f"import remit_test_event\nremit_test_event.told.wait(30)\n{GOOD}"
    module = types.ModuleType("remit_test_event")
    vars(module)["told"] = told
    monkeypatch.setitem(sys.modules, "remit_test_event", module)
    with installed(tmp_path, {"slow": slow}) as found:
        plugins = Plugins(found)
    assert said == ["remit waits for its plugin 'slow', which takes long to load"]
    assert set(plugins.transports) == {"good"}
