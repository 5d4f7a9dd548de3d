"""What type checkers, mypy and pyright, make of programs that use remit."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAMS = Path(__file__).parent / "programs"
RIGHT, WRONG = PROGRAMS / "right.py", PROGRAMS / "wrong.py"

# The line, whether it is an error (else it tells a type), and the words.
Found = list[tuple[Path, int, bool, str]]


@cache
def mypy() -> Found:
    options = ["--strict", "--output=json", "--hide-error-context"]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, str(RIGHT), str(WRONG)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.stdout, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return [
        (ROOT / item["file"], item["line"], item["severity"] == "error", item["message"])
        for item in found
    ]


@cache
def pyright() -> Found:
    done = subprocess.run(
        [sys.executable, "-m", "pyright", "--outputjson", str(RIGHT), str(WRONG)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        # What it brings along, instead of asking for a newer one.
        env={**os.environ, "PYRIGHT_PYTHON_USE_BUNDLED_PYRIGHT": "1"},
    )
    assert done.stdout, done.stderr
    return [
        (
            Path(item["file"]),
            item["range"]["start"]["line"] + 1,
            item["severity"] == "error",
            item["message"],
        )
        for item in json.loads(done.stdout)["generalDiagnostics"]
    ]


checkers = pytest.mark.parametrize("checker", [mypy, pyright])


def marked(path: Path, pattern: str) -> dict[int, str]:
    lines = enumerate(path.read_text().splitlines(), 1)
    return {number: found[1] for number, line in lines if (found := re.search(pattern, line))}


@checkers
def test_each_wrong_line_is_found_and_no_other(checker: Callable[[], Found]) -> None:
    found = {line for path, line, is_error, _ in checker() if path == WRONG and is_error}
    assert found == set(marked(WRONG, r"# (wrong)$"))


@checkers
def test_types_are_what_they_should_be(checker: Callable[[], Found]) -> None:
    right = [(line, is_error, words) for path, line, is_error, words in checker() if path == RIGHT]
    assert [words for _, is_error, words in right if is_error] == []
    revealed = {
        line: re.sub(r"(?:\w+\.)+(\w+)", r"\1", words.rpartition(" is ")[2].strip('"'))
        for line, _, words in right
        if " is " in words
    }
    assert revealed == marked(RIGHT, r"reveal_type\(.*\)  # (.+)$")
