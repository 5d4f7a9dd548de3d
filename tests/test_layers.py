"""Who may use whom: docs/design.md, "Layers", line by line."""

import ast
import re
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

from remit import _kit

ROOT = Path(__file__).parents[1]
CORE = ROOT / "core" / "remit"
OUTSIDE = [*sorted((ROOT / "transports").iterdir()), *sorted((ROOT / "plugins").iterdir())]
PROMISES = {"remit", "remit.abc", "remit.testing"}

# The agent carries these as they stand, and runs where nothing is installed.
SHARED = {"remit._frames", "remit._conversation", "remit._msgpack", "remit._jobstate"} | {
    "remit._records"
}
# Bytes or words in, values out: no I/O, no clock, no event loop.
PURE = SHARED | {"remit._errors", "remit._words", "remit._messages", "remit._target", "remit.abc"}
WORLD = {"anyio", "asyncio", "trio", "select", "selectors", "signal", "socket", "subprocess"} | {
    "threading",
    "time",
}


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
AGENT = [module for module in CORE_MODULES if module.name.startswith("remit.agent")]
# What runs functions is sent to another interpreter there: an ordinary one, but still none of ours.
WORKER = [module for module in CORE_MODULES if module.name.startswith("remit.worker")]
KIT = {name for name in _kit._modules() if not name.startswith("remit.worker")}
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
    assert not top(imports(module.tree)) & WORLD


@pytest.mark.parametrize("name", sorted(PURE))
def test_what_is_called_pure_is_there(name: str) -> None:
    assert name in NAMES


@pytest.mark.parametrize(
    "module",
    [m for m in CORE_MODULES if not m.name.startswith(("remit.cli", "remit.testing"))],
    ids=name_of,
)
def test_nothing_below_uses_the_upper_layers(module: Module) -> None:
    imported = ours(imports(module.tree, NAMES))
    assert not [name for name in imported if name.startswith(("remit.cli", "remit.testing"))]
    assert "remit" not in imported, "the public names are for users, who stand above"


def test_the_core_needs_no_plugin() -> None:
    names = {path.stem for path in OUTSIDE}
    assert not [m.name for m in CORE_MODULES if top(imports(m.tree)) & names]


def test_no_module_needs_itself_to_be_loaded() -> None:
    graph = {
        module.name: ours(imports(_LoadTime().visit(module.tree), NAMES)) & NAMES
        for module in CORE_MODULES
    }
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


class _LoadTime(ast.NodeTransformer):
    """Leaves out what does not run when the module is imported."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        return None

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        return None

    def visit_If(self, node: ast.If) -> ast.AST | None:
        named = isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        return None if named else self.generic_visit(node)


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
