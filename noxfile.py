"""``nox -s tests types lint docs``; with ``--no-venv`` in the environment that is there."""

from pathlib import Path

import nox

nox.options.sessions = ["lint", "types", "tests", "docs"]
nox.options.reuse_venv = "yes"

# Most tests wait for processes most of the time: more workers than processors pay.
SPREAD = ["--numprocesses=4", "--dist=worksteal"]
CHECKED = ["core", "transports", "plugins", "tests", "benchmarks", "noxfile.py"]


def install(session: nox.Session) -> None:
    """Remit and all it is checked with, unless the environment is somebody else's."""
    if session.venv_backend != "none":
        session.install("-e", ".[dev]")


@nox.session
def tests(session: nox.Session) -> None:
    """Arguments go to pytest."""
    install(session)
    measured = ["--cov", "--cov-branch", "--cov-report=term"]
    session.run(
        "python", "-m", "pytest", *SPREAD, *measured, "--ignore=tests/docs", *session.posargs
    )


@nox.session
def types(session: nox.Session) -> None:
    install(session)
    session.run("python", "-m", "mypy", "--strict", *filter(_has_python, CHECKED))


@nox.session
def lint(session: nox.Session) -> None:
    install(session)
    session.run("python", "-m", "ruff", "check")
    session.run("python", "-m", "ruff", "format", "--check")


@nox.session
def docs(session: nox.Session) -> None:
    """What the pages say is so: tests/docs runs it."""
    install(session)
    session.run("python", "-m", "pytest", *SPREAD, "tests/docs", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Arguments go to ``python -m benchmarks``."""
    install(session)
    if not Path("benchmarks/__main__.py").exists():
        session.skip("there are no benchmarks yet")
    session.run("python", "-m", "benchmarks", *session.posargs)


@nox.session
def torture(session: nox.Session) -> None:
    """Random jobs and faults; arguments as ``python -m torture --help`` tells (in tests/)."""
    install(session)
    session.run("python", "-m", "torture", *session.posargs, env={"PYTHONPATH": "tests"})


def _has_python(name: str) -> bool:
    path = Path(name)
    return path.suffix == ".py" or any(path.rglob("*.py"))
