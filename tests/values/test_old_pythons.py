"""The codec on real interpreters: what one of them writes the other reads, both ways."""

import base64
import subprocess
from pathlib import Path

import pytest

from remit._link import agent_payload
from remit._shipping import worker_payload
from remit._values import codec
from testbed import pythons
from values import values_table
from values.values_table import EXPECTED, alike, make

INTERPRETERS = [
    pytest.param(found, id=found.version, marks=pytest.mark.real) for found in pythons.found()
]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Where, by minor version, the modules stand as that Python gets them."""
    made = {}
    for found in pythons.found():
        root = tmp_path_factory.mktemp(f"for{found.minor}")
        (root / "remit").mkdir()
        (root / "remit" / "__init__.py").touch()
        prepare = agent_payload.preparation((3, found.minor))
        for name, text in worker_payload._modules().items():
            if name.startswith(("remit._values", "remit._wire")):
                end = "/__init__.py" if name.count(".") == 1 else ".py"
                path = root / (name.replace(".", "/") + end)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(prepare(text))
        made[found.minor] = root
        table = Path(values_table.__file__).read_text(encoding="utf-8")
        (root / "table.py").write_text(prepare(table))
    return made


def run(python: pythons.Interpreter, sources: Path, *arguments: str, given: str = "") -> str:
    """What the table prints on another Python, with nothing but the standard library."""
    code = (
        f"import sys, runpy; sys.path.insert(0, {str(sources)!r}); "
        f"sys.argv[1:] = {list(arguments)!r}; "
        f"runpy.run_path({str(sources / 'table.py')!r}, run_name='__main__')"
    )
    command = [str(python.path), "-IS", "-c", code]
    done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("python", INTERPRETERS)
def test_what_another_python_writes_is_read_here(
    python: pythons.Interpreter, sources: dict[int, Path]
) -> None:
    lines = run(python, sources[python.minor], "encode").splitlines()
    assert len(lines) == len(EXPECTED)
    for expected, line in zip(EXPECTED.values(), lines, strict=True):
        value = codec.decode(base64.b64decode(line))
        assert alike(value, make(expected, "__main__")), expected


@pytest.mark.parametrize("python", INTERPRETERS)
def test_what_is_written_here_is_read_on_another_python(
    python: pythons.Interpreter, sources: dict[int, Path]
) -> None:
    lines = []
    for text in EXPECTED:
        data = b"".join(codec.encode(make(text, "")))
        lines.append(base64.b64encode(data).decode() + "\n")
    here = values_table.__name__
    assert run(python, sources[python.minor], here, given="".join(lines)) == ""


def test_nothing_but_the_standard_library_is_loaded_with_the_codec(
    sources: dict[int, Path],
) -> None:
    python = pythons.found()[0]
    code = (
        f"import sys; sys.path.insert(0, {str(sources[python.minor])!r}); before = set(sys.modules)"
        "; import remit._values.codec; print(*sorted({name.split('.')[0] for name in sys.modules} "
        "& {'numpy', 'pandas', 'pyarrow', 'decimal', 'fractions', 'pathlib', 'uuid', 'typing'}"
        " - before))"
    )
    done = subprocess.run([str(python.path), "-ISc", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("\n", "")
