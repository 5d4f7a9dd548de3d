"""A stand-in for a transport's tool: it notes its arguments and runs the rest of them here."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest


class StubTool:
    """Makes programs in a directory of its own: ``stub_tool("kubectl")`` is the path of one."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def __call__(self, name: str, *, skip: int | None = None, shell: bool = False) -> str:
        """A program ``name`` that notes its arguments and becomes the command among them.

        The command begins after the first ``--``, or after ``skip`` arguments. With ``shell`` it
        is one line for a login shell, after one argument more (the host): as ssh has it.
        """
        lines = []
        if skip is None:
            lines.append('while [ "$#" -gt 0 ] && [ "$1" != -- ]; do shift; done')
        lines.append(f"shift {(skip if skip is not None else 1) + shell}")
        lines.append('exec /bin/sh -c "$*"' if shell else 'exec "$@"')
        return self._make(name, lines)

    def failing(self, name: str, *, stderr: str = "", exit_status: int = 1) -> str:
        """A program ``name`` that notes its arguments, says ``stderr`` and ends so."""
        return self._make(name, [f"printf %s {shlex.quote(stderr)} >&2", f"exit {exit_status}"])

    def calls(self, name: str) -> list[list[str]]:
        """The arguments of each start of ``name`` so far, the oldest first."""
        notes = self._notes(name)
        if not notes.exists():
            return []
        # Each call is the count of its arguments, then those, each with a NUL after it.
        fields = iter(notes.read_text(errors="surrogateescape").split("\0")[:-1])
        return [[next(fields) for _ in range(int(count))] for count in fields]

    def _make(self, name: str, lines: list[str]) -> str:
        self._directory.mkdir(parents=True, exist_ok=True)
        notes = shlex.quote(str(self._notes(name)))
        program = self._directory / name
        note = f'printf \'%s\\0\' "$#" "$@" >>{notes}'
        program.write_text("\n".join(["#!/bin/sh", note, *lines, ""]))
        program.chmod(0o700)
        return str(program)

    def _notes(self, name: str) -> Path:
        return self._directory / f"{name}.calls"


@pytest.fixture
def stub_tool(tmp_path: Path) -> StubTool:
    """Stands in for tools that are not installed, or must not be started."""
    return StubTool(tmp_path / "stubs")
