"""The programs under examples/ do what they say, those with ``await`` on both event loops."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from starlette.requests import ClientDisconnect

import remit
from remit._portal import portal

EXAMPLES = Path(__file__).parents[2] / "examples"


def example(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # what it defines is found there by what sends it
    spec.loader.exec_module(module)
    return module


def run(name: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, EXAMPLES / f"{name}.py", *arguments], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_each_program_is_tried() -> None:
    tried = {"plain", "batch", "deadlines", "web", "joblib_targets"}
    assert {path.stem for path in EXAMPLES.glob("*.py")} == tried


def test_the_plain_script() -> None:
    assert run("plain", "local:").startswith("localhost: ")


@pytest.mark.anyio
async def test_the_batch() -> None:
    batch = example("batch")
    assert await batch.main("local:") == [number**2 for number in range(200)]


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_the_deadlines() -> None:
    deadlines = example("deadlines")
    deadlines.PROBES, deadlines.FOR_A_PROBE = {"slow": "sleep 1000"}, 0.3
    assert await deadlines.main(["local:"]) == {"local:": {"slow": "took too long"}}
    deadlines.PROBES, deadlines.FOR_A_PROBE = {"name": "uname"}, 60.0
    report = await deadlines.main(["local:", "command:false"])
    assert report["local:"] == {"name": "Linux"}
    assert "error" in report["command:false"]


def test_joblib_over_three_targets(tmp_path: Path) -> None:
    """Beside itself, which is the same computer by two more ways."""
    joblib_targets = example("joblib_targets")
    found = joblib_targets.main(["local:", "command:env", "command:nice"])
    assert [square for square, _ in found] == [number**2 for number in range(40)]
    assert len({pid for _, pid in found}) >= 3
    assert portal()._hubs == set()


def test_the_notebook(capsys: pytest.CaptureFixture[str]) -> None:
    """Cell by cell, as a notebook runs them: what stands last in one is shown."""
    cells = json.loads((EXAMPLES / "notebook.ipynb").read_text())["cells"]
    names: dict[str, Any] = {"__name__": "__main__"}
    shown = []
    for number, cell in enumerate(cells):
        if cell["cell_type"] == "code":
            tree = ast.parse("".join(cell["source"]))
            last = tree.body.pop()
            exec(compile(tree, f"<cell {number}>", "exec"), names)
            if isinstance(last, ast.Expr):
                expression = ast.Expression(last.value)
                shown.append(eval(compile(expression, f"<cell {number}>", "eval"), names))
            else:
                exec(compile(ast.Module([last], []), f"<cell {number}>", "exec"), names)
    peer, counts, lines, closed = shown
    assert peer.user
    assert counts == [4, 25, 168]
    assert lines == ["step 1", "step 2", "step 3"]
    assert closed is None


# -- the web application


class Client:
    """Speaks ASGI with an application, in this event loop."""

    def __init__(self, app: Any, state: dict[str, Any]) -> None:
        self._app = app
        self._state = state

    async def request(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        got: Callable[[bytes], Awaitable[None]] | None = None,
    ) -> tuple[int, bytes]:
        """``got`` is given each piece of the answer as it comes."""
        told = [{"type": "http.request", "body": body, "more_body": False}]
        status, whole = 0, b""

        async def receive() -> dict[str, Any]:
            if not told:
                await anyio.sleep_forever()
            return told.pop()

        async def send(message: dict[str, Any]) -> None:
            nonlocal status, whole
            status = message.get("status", status)
            whole += message.get("body", b"")
            if got is not None and message.get("body"):
                await got(message["body"])

        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": method,
            "path": path,
            "query_string": b"",
            "headers": [],
            "state": self._state,
        }
        await self._app(scope, receive, send)
        return status, whole


@pytest.mark.anyio
async def test_the_web_application(tmp_path: Path) -> None:
    web = example("web")
    gate = tmp_path / "gate"
    line = f"echo one; until [ -e {gate} ]; do sleep 0.02; done; echo two"

    async def open_gate(piece: bytes) -> None:
        gate.touch()  # the first line came while the job ran

    async def leave(piece: bytes) -> None:
        raise OSError("the browser left")

    async with web.lifespan(web.app) as state:
        client = Client(web.app, state)
        words = json.dumps(["sh", "-c", line]).encode()
        status, answer = await client.request("POST", "/jobs", words)
        assert status == 201
        path = f"/jobs/{json.loads(answer)['id']}/events"
        with pytest.raises(ClientDisconnect):
            await client.request("GET", path, got=leave)
        status, told = await client.request("GET", path, got=open_gate)
        assert (status, told) == (
            200,
            b'data: "one"\n\ndata: "two"\n\nevent: end\ndata: COMPLETED\n\n',
        )
        assert (await client.request("GET", path))[1] == told
        assert (await client.request("GET", "/jobs/nothing/events"))[0] == 404
        session = await state["hub"].session("local:")
        for info in await session.jobs():
            await (await session.job(info.id)).remove()
    assert session.state is remit.SessionState.CLOSED
    assert os.environ.get("TARGET") is None
