"""A transport from elsewhere: a package of its own, found by its entry point alone."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from remit.abc import Target, Transport
from remit.testing import StreamConformance, StubTool

PACKAGE = Path(__file__).parent / "kubectl_like"

USER = """
import json, sys
import anyio, remit
from remit._plugins import plugins
from remit._target import parse_target

async def main():
    target, transport = parse_target("kubectl-like:default/web-0", plugins())
    async with transport.open(target, ["echo", "from the pod"]) as stream:
        said = await stream.receive()
    found = [type(transport).__module__, said.decode(), [str(f) for f in plugins().faulty]]
    print(json.dumps(found))

anyio.run(main)
"""


def load() -> type[Transport]:
    """The plugin's class, without installing it."""
    spec = importlib.util.spec_from_file_location(
        "remit_kubectl_like", PACKAGE / "remit_kubectl_like.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: type[Transport] = module.KubectlLike
    return found


class TestKubectlLike(StreamConformance):
    @pytest.fixture
    def transport(self, stub_tool: StubTool) -> Transport:
        return load()(program=stub_tool("kubectl"))  # type: ignore[call-arg]

    @pytest.fixture
    def target(self) -> Target:
        return Target("kubectl-like", "default/web-0")

    @pytest.fixture
    def refused_addresses(self) -> list[str]:
        return ["", "pod", "/pod", "default/", "-x/pod", "default/-x"]


def test_an_installed_package_is_all_it_takes(tmp_path: Path, stub_tool: StubTool) -> None:
    site, source = tmp_path / "site", tmp_path / "source"
    source.mkdir()
    for path in PACKAGE.iterdir():  # a build must not write beside the sources
        if path.is_file():
            (source / path.name).write_bytes(path.read_bytes())
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    pip += ["--no-index", "--no-build-isolation", "--no-deps", f"--target={site}", str(source)]
    subprocess.run(pip, check=True, timeout=120)
    tools = Path(stub_tool("kubectl")).parent
    search = [str(site), *filter(None, [os.environ.get("PYTHONPATH")])]
    env = os.environ | {
        "PYTHONPATH": os.pathsep.join(search),
        "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
    }
    done = subprocess.run(
        [sys.executable, "-c", USER], env=env, check=True, stdout=subprocess.PIPE, timeout=60
    )
    assert json.loads(done.stdout) == ["remit_kubectl_like", "from the pod\n", []]
    assert stub_tool.calls("kubectl") == [
        ["exec", "-i", "-n", "default", "web-0", "--", "echo", "from the pod"]
    ]
