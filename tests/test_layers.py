"""Who may use whom: docs/design.md, "Layers", line by line."""

import ast
import inspect
import pickle
import re
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

import remit
from remit._agent.enter import control_socket
from remit._shipping import worker_payload

ROOT = Path(__file__).parents[1]
CORE = ROOT / "core" / "remit"
OUTSIDE = [*sorted((ROOT / "transports").iterdir()), *sorted((ROOT / "plugins").iterdir())]
PROMISES = {"remit", "remit.abc", "remit.testing"}

# The agent carries these as they stand, and runs where nothing is installed.
SHARED = {
    "remit._wire",
    "remit._wire.calls",
    "remit._wire.channels",
    "remit._wire.conversation",
    "remit._wire.credit",
    "remit._wire.ended",
    "remit._wire.frames",
    "remit._wire.msgpack",
    "remit._wire.names",
    "remit._wire.records",
    "remit._wire.refusal",
    "remit._wire.requests",
    "remit._wire.sanitize",
    "remit._wire.states",
    "remit._wire.streams",
    "remit._wire.trace",
}
# Bytes or words in, values out: no I/O, no clock, no event loop.
PURE = {*SHARED, "remit._decoding", "remit._errors", "remit._function_records"} | {
    *("remit._link.messages", "remit._target", "remit._types", "remit.abc"),
}
WORLD = {"anyio", "asyncio", "trio", "select", "selectors", "signal", "socket", "subprocess"} | {
    "threading",
    "time",
}


UPPER = ("remit.cli", "remit.testing", "remit.__main__")


class Module(NamedTuple):
    name: str
    path: Path

    @property
    def tree(self) -> ast.Module:
        return ast.parse(self.path.read_text(), str(self.path))


def modules(directory: Path) -> Iterator[Module]:
    for path in sorted(directory.rglob("*.py")):
        parts = path.relative_to(directory.parent).with_suffix("").parts
        yield Module(".".join(parts[:-1] if parts[-1] == "__init__" else parts), path)


CORE_MODULES = list(modules(CORE))
NAMES = {module.name for module in CORE_MODULES}
AGENT = [m for m in CORE_MODULES if m.name.startswith(("remit._agent", "remit._jobdir"))]
# What runs functions is sent to another interpreter there: an ordinary one, but still none of ours.
WORKER = [module for module in CORE_MODULES if module.name.startswith("remit._worker")]
KIT = {name for name in worker_payload._modules() if not name.startswith("remit._worker")}
PLUGINS = [module for directory in OUTSIDE for module in modules(directory)]


def imports(tree: ast.AST, known: set[str] | frozenset[str] = frozenset()) -> set[str]:
    """The modules that are imported anywhere in it. ``known`` tells modules from other names."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.module, "imports are written out in full"
            assert node.level == 0, "imports are written out in full"
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in known else node.module for name in whole}
    return found


def ours(names: set[str]) -> set[str]:
    return {name for name in names if name.partition(".")[0] == "remit"}


def top(names: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}


def name_of(module: Module) -> str:
    return module.name


@pytest.mark.parametrize("module", PLUGINS, ids=name_of)
def test_a_plugin_stands_where_a_third_party_stands(module: Module) -> None:
    imported = imports(module.tree, NAMES)
    assert ours(imported) <= PROMISES
    others = {path.stem for path in OUTSIDE} - {module.name.partition(".")[0]}
    assert not top(imported) & others, "one plugin knows of another"


@pytest.mark.parametrize("module", PLUGINS, ids=name_of)
def test_a_plugin_uses_no_private_name_of_ours(module: Module) -> None:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            assert not (node.value.id == "remit" and node.attr.startswith("_")), node.attr


@pytest.mark.parametrize(
    "module", [m for m in CORE_MODULES if m.name in SHARED or m in AGENT], ids=name_of
)
def test_the_agent_needs_nothing_that_is_not_sent_with_it(module: Module) -> None:
    imported = imports(module.tree, NAMES)
    sent = SHARED | {agent.name for agent in AGENT}
    assert ours(imported) <= (SHARED if module.name in SHARED else sent)
    assert top(imported) - {"remit"} <= sys.stdlib_module_names


@pytest.mark.parametrize(
    "module", [m for m in CORE_MODULES if m.name in KIT or m in WORKER], ids=name_of
)
def test_the_worker_needs_nothing_that_is_not_sent_with_it(module: Module) -> None:
    imported = imports(module.tree, NAMES)
    sent = KIT | {worker.name for worker in WORKER}
    assert ours(imported) <= (KIT if module.name in KIT else sent)
    # These are only for values of theirs, and for a caller that sends pickles.
    libraries = {"numpy", "pandas", "pyarrow", "cloudpickle"}
    assert top(imported) - {"remit"} - libraries <= sys.stdlib_module_names


@pytest.mark.parametrize("module", [m for m in CORE_MODULES if m.name in PURE], ids=name_of)
def test_what_is_pure_knows_no_world(module: Module) -> None:
    tree = module.tree
    names = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    # What signals are called does nothing.
    harmless = {n.module for n in names if [a.name for a in n.names] == ["Signals"]}
    assert not top(imports(tree)) & WORLD - harmless


@pytest.mark.parametrize("name", sorted(PURE))
def test_what_is_called_pure_is_there(name: str) -> None:
    assert name in NAMES


@pytest.mark.parametrize(
    "module",
    [m for m in CORE_MODULES if not m.name.startswith(UPPER)],
    ids=name_of,
)
def test_nothing_below_uses_the_upper_layers(module: Module) -> None:
    imported = ours(imports(module.tree, NAMES))
    assert not [name for name in imported if name.startswith(UPPER)]
    assert "remit" not in imported, "the public names are for users, who stand above"


def test_the_core_needs_no_plugin() -> None:
    names = {path.stem for path in OUTSIDE}
    assert not [m.name for m in CORE_MODULES if top(imports(m.tree)) & names]


# From the ground up. A module uses what stands in its own package, or below.
FLOORS = (
    *("_wire", "_values", "_jobdir"),
    *("_agent.base", "_agent.functions", "_agent.returned", "_agent.kept", "_agent.enter"),
    *("_agent", "_worker"),
    *("_version", "_public", "_amounts", "_types", "_errors", "_decoding", "_function_records"),
    *("abc", "_entry_points", "_hookspecs", "_plugins", "_target", "_pump", "_process"),
    *("_link", "_shipping", "_jobs", "_session", "_portal", "_executor", "blocking"),
    *("", "testing", "cli", "__main__"),
)


def floor(name: str) -> int:
    """Of a module or a package, without ``remit.``."""
    while name not in FLOORS:
        name = name.rpartition(".")[0]
    return FLOORS.index(name)


def test_no_package_looks_up() -> None:
    # Imports for types alone count too.
    used = [
        (module.name.partition(".")[2], name.partition(".")[2])
        for module in CORE_MODULES
        for name in ours(imports(module.tree, NAMES))
    ]
    assert not [(user, name) for user, name in used if floor(name) > floor(user)]


@pytest.mark.parametrize("name", remit.__all__)
def test_what_is_public_goes_by_the_name_that_users_write(name: str) -> None:
    value = getattr(remit, name)
    if inspect.isclass(value) or inspect.isfunction(value):
        assert (value.__module__, value.__qualname__) in ((public, name) for public in PROMISES)
        assert pickle.loads(pickle.dumps(value)) is value


@pytest.mark.parametrize("module", [*AGENT, *WORKER], ids=name_of)
def test_a_package_that_is_sent_has_words_alone(module: Module) -> None:
    if module.path.stem == "__init__":
        assert len(module.tree.body) == 1
        assert ast.get_docstring(module.tree)


def test_no_module_needs_itself_to_be_loaded() -> None:
    graph = {
        module.name: ours(imports(_LoadTime().visit(module.tree), NAMES)) & NAMES
        for module in CORE_MODULES
    }
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_a_launcher_is_sent_all_that_it_needs_and_no_more() -> None:
    # Packages are sent empty.
    files = [module for module in CORE_MODULES if module.path.stem != "__init__"]
    used = {m.name: ours(imports(_Running().visit(m.tree), NAMES)) for m in files}
    found: set[str] = set()
    todo = {"remit._agent.enter.launcher"}
    while todo:
        name = todo.pop()
        found.add(name)
        packages = {".".join(name.split(".")[:n]) for n in range(1, name.count(".") + 1)}
        todo |= (packages | used.get(name, set())) - found
    assert sorted(found) == list(control_socket._MODULES)


class _Running(ast.NodeTransformer):
    """Leaves out what is for types alone."""

    def visit_If(self, node: ast.If) -> ast.AST | None:
        named = isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        return None if named else self.generic_visit(node)


class _LoadTime(_Running):
    """Leaves out what does not run when the module is imported."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        return None

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        return None


@pytest.mark.parametrize(
    "module",
    [m for m in [*CORE_MODULES, *PLUGINS] if not m.name.startswith("remit.cli")],
    ids=name_of,
)
def test_only_the_command_line_prints(module: Module) -> None:
    called = [node.func for node in ast.walk(module.tree) if isinstance(node, ast.Call)]
    assert "print" not in {func.id for func in called if isinstance(func, ast.Name)}


@pytest.mark.parametrize("module", CORE_MODULES, ids=name_of)
def test_the_core_names_no_tool_of_a_transport(module: Module) -> None:
    # Documentation may: docstrings and comments are not looked at.
    tool = re.compile(r"\b(ssh|docker|podman)\b")
    tree = module.tree
    docs = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    words = [
        value
        for node in ast.walk(tree)
        if id(node) not in docs
        for _, value in ast.iter_fields(node)
        if isinstance(value, str) and tool.search(value)
    ]
    assert words == []


# Of the process, whoever runs in it: the limits that it has raised, the kills that it has seen, the
# words that it has packed, and the files that it holds open between turns.
OF_THE_PROCESS = {
    "remit._agent.base.fds": {"_before"},
    "remit._agent.base.oom": {"_seen"},
    "remit._agent.kept.looks": {"_open"},
    "remit._wire.msgpack": {"_words"},
    "remit._agent.base.loop": {"_NOTHING"},  # stays empty
}


def may_change(value: ast.expr | None) -> bool:
    """Whether it makes something that is there to be changed: an empty container, or a counter."""
    match value:
        case ast.List(elts=[]) | ast.Dict(keys=[]):
            return True
        case ast.List(elts=[ast.Constant()]):
            return True
        case ast.Call(func=ast.Name(id=name)):
            return name in {"list", "dict", "set", "deque", "OrderedDict", "count", "defaultdict"}
    return False


@pytest.mark.parametrize("module", [m for m in CORE_MODULES if m in AGENT], ids=name_of)
def test_what_a_session_shares_has_an_owner_there(module: Module) -> None:
    found = set()
    for node in ast.walk(module.tree):
        assert not isinstance(node, ast.Global)
    for node in module.tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and may_change(node.value):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            found |= {target.id} if isinstance(target, ast.Name) else set()
    assert found <= OF_THE_PROCESS.get(module.name, set())
