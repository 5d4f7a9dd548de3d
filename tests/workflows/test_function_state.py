"""What one call does to its process is not met by the next; and only the process that took a call
answers it."""

from __future__ import annotations

import sys
from contextlib import nullcontext, suppress
from typing import Any

import anyio
import pytest

import remit
from testbed import pythons, waits

pytestmark = [pytest.mark.anyio, pytest.mark.real]


@pytest.fixture
def anyio_backend() -> str:
    """One of them: what is tried here is on the target."""
    return "asyncio"


_FOUND = pythons.found()
INTERPRETERS = [
    pytest.param(str(one.path), id=one.version)
    for one in _FOUND
    if one.minor in (_FOUND[0].minor, sys.version_info.minor, _FOUND[-1].minor)
]


def chdir(where: str) -> None:
    import os

    os.chdir(where)


def chdir_to_nowhere(where: str) -> None:
    import os
    import tempfile

    gone = tempfile.mkdtemp()
    os.chdir(gone)
    os.rmdir(gone)


def environment(where: str) -> None:
    import os

    os.environ["ADDED"] = "1"
    del os.environ["PATH"]
    os.environ["HOME"] = "/nowhere"


def time_zone(where: str) -> None:
    import os
    import time

    os.environ["TZ"] = "XYZ-5"
    time.tzset()


def umask(where: str) -> None:
    import os

    os.umask(0o777)


def handlers(where: str) -> None:
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)


def blocked_signals(where: str) -> None:
    import signal

    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGTERM])


def alarm(where: str) -> None:
    import signal

    signal.signal(signal.SIGALRM, lambda *_: 1 // 0)
    signal.setitimer(signal.ITIMER_REAL, 1000.0)


def closed_streams(where: str) -> None:
    import sys

    sys.stdin.close()
    sys.stdout.close()


def other_streams(where: str) -> None:
    import io
    import sys

    sys.stdout = sys.stderr = io.StringIO()


def no_streams(where: str) -> None:
    import sys

    del sys.stdout
    setattr(sys, "stderr", None)  # noqa: B010


def closed_descriptors(where: str) -> None:
    import os

    for fd in range(3):
        os.close(fd)


def redirected(where: str) -> None:
    import os

    fd = os.open("/dev/full", os.O_WRONLY)
    for to in (1, 2):
        os.dup2(fd, to)
    os.close(fd)


def warnings_as_errors(where: str) -> None:
    import warnings

    warnings.simplefilter("error")
    setattr(warnings, "showwarning", lambda *_: 1 // 0)  # noqa: B010


def recursion(where: str) -> None:
    import sys

    sys.setrecursionlimit(150)


def limits(where: str) -> None:
    import resource

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (12, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def limits_for_good(where: str) -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))


def nice(where: str) -> None:
    import os

    os.nice(3)


def path(where: str) -> None:
    import sys

    sys.path.insert(0, where)
    sys.argv[:] = ["x"]
    sys.excepthook = lambda *_: None


def locale_(where: str) -> None:
    import locale

    locale.setlocale(locale.LC_ALL, "C.UTF-8")


def logs(where: str) -> None:
    import logging

    logging.disable(logging.CRITICAL)
    logging.basicConfig(level=1)


def tracing(where: str) -> None:
    import gc
    import sys

    gc.disable()
    sys.setprofile(lambda *_: None)


def raising(where: str) -> None:
    import os

    os.chdir("/")
    os.umask(0)
    raise ValueError("in the middle")


PESTS = [
    chdir,
    chdir_to_nowhere,
    environment,
    time_zone,
    umask,
    handlers,
    blocked_signals,
    alarm,
    closed_streams,
    other_streams,
    no_streams,
    closed_descriptors,
    redirected,
    warnings_as_errors,
    recursion,
    limits,
    limits_for_good,
    nice,
    path,
    locale_,
    logs,
    tracing,
    raising,
]


def look() -> Any:
    """All that an innocent function may depend on, used and looked at."""
    import gc
    import locale
    import logging
    import os
    import resource
    import signal
    import sys
    import time
    import warnings

    print("to stdout")
    print("to stderr", file=sys.stderr, flush=True)
    sys.stdin.read()
    with warnings.catch_warnings(record=True):
        warnings.warn("only a warning", stacklevel=1)
    mask = os.umask(0)
    os.umask(mask)
    names = [name for name in dir(resource) if name.startswith("RLIMIT_")]
    return [
        os.getcwd(),
        sorted(os.environ.items()),
        time.tzname[0],
        mask,
        [str(signal.getsignal(n)) for n in range(1, 32) if n != signal.SIGINT],
        signal.getsignal(signal.SIGINT) is signal.SIG_IGN,
        sorted(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, []))),
        signal.getitimer(signal.ITIMER_REAL)[0] > 0,
        [os.readlink("/proc/self/fd/0"), os.readlink("/proc/self/fd/1")],
        os.readlink("/proc/self/fd/2").partition(":")[0],
        [str(one) for one in warnings.filters],
        sys.getrecursionlimit(),
        [resource.getrlimit(getattr(resource, name)) for name in names],
        os.getpriority(os.PRIO_PROCESS, 0),
        sys.path,
        sys.argv,
        sys.excepthook is sys.__excepthook__,
        locale.setlocale(locale.LC_ALL),
        [logging.getLogger().level, logging.getLogger().isEnabledFor(logging.ERROR)],
        [gc.isenabled(), sys.getprofile() is None],
    ]


@pytest.mark.parametrize("python", INTERPRETERS)
async def test_no_call_meets_what_another_has_changed(python: str) -> None:
    async with remit.connect("local:", workers=1) as session:
        with anyio.fail_after(120):
            before = await session.call(look, python=python)
            for pest in PESTS:
                with suppress(remit.JobFailed) if pest is raising else nullcontext():
                    await session.call(pest, "/tmp", python=python)
                assert await session.call(look, python=python) == before, pest.__name__


def forks(child: str) -> list[object]:
    """The child goes on as ``child`` says; the parent waits for it."""
    import os
    import sys

    pid = os.fork()
    if not pid:
        if child == "exits":
            sys.exit(3)
        if child == "raises":
            raise ValueError("in the child")
        if child == "fails to exec":
            os.execv("/no/such/program", ["x"])
        return ["the child"]
    status = os.waitpid(pid, 0)[1]
    return ["the parent", os.WEXITSTATUS(status)]


def forks_and_forgets() -> int:
    import os
    import time

    child = os.fork()
    if not child:
        time.sleep(0.05)
    return child


def echo(value: object) -> object:
    return value


@pytest.mark.parametrize("python", INTERPRETERS)
async def test_a_child_does_not_answer(python: str) -> None:
    async with remit.connect("local:", workers=1) as session:
        with anyio.fail_after(60):
            for child, status in [
                ("returns", 0),
                ("exits", 3),
                ("raises", 1),
                ("fails to exec", 1),
            ]:
                got = await session.call(forks, child, python=python)
                assert got == ["the parent", status], child
            children = []
            for number in range(5):
                children.append(await session.call(forks_and_forgets, python=python))
                assert await session.call(echo, number, python=python) == number
            assert all(children)
            await waits.gone(*children)
            assert await session.call(echo, "after", python=python) == "after"


def pool_of(method: str) -> list[int]:
    import multiprocessing

    with multiprocessing.get_context(method).Pool(2) as pool:
        return pool.map(twice, range(5))


def executor_of(method: str) -> list[int]:
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    how: Any = {"mp_context": multiprocessing.get_context(method)}
    if "mp_context" not in ProcessPoolExecutor.__init__.__code__.co_varnames:
        how.clear()  # Python 3.6
    with ProcessPoolExecutor(2, **how) as pool:
        return list(pool.map(twice, range(5)))


def twice(x: int) -> int:
    return 2 * x


@pytest.mark.parametrize("function", [pool_of, executor_of])
@pytest.mark.parametrize("python", INTERPRETERS)
async def test_multiprocessing_over_functions_that_were_sent(python: str, function: Any) -> None:
    async with remit.connect("local:", workers=1) as session:
        for method in ("fork", "spawn", "forkserver"):
            with anyio.fail_after(60):
                assert await session.call(function, method, python=python) == [0, 2, 4, 6, 8]
                job = await session.start(function, method, python=python)
                assert await job.result() == [0, 2, 4, 6, 8]


def logs_in_a_child() -> str:
    import logging
    import os
    import warnings

    pid = os.fork()
    if not pid:
        logging.info("an info of the child")
        logging.warning("a log of the child")
        warnings.warn("a warning of the child", stacklevel=1)
        os._exit(0)
    os.waitpid(pid, 0)
    logging.warning("a log of the parent")
    return "over"


async def test_logs_and_warnings_of_a_child_go_to_stderr() -> None:
    async with remit.connect("local:") as session:
        job = await session.start(logs_in_a_child)
        records: list[remit.Record] = [record async for record in job.receive()]
        stderr = b"".join(one.data for one in records if one.stream == "stderr").decode()
        assert "a log of the child" in stderr
        assert "a warning of the child" in stderr
        assert "an info of the child" not in stderr
        assert [one.data.message for one in records if one.stream == "log"] == [
            "a log of the parent"
        ]


def odd_notes() -> None:
    exc = ValueError("its own words")
    exc.__notes__ = None  # type: ignore[assignment]
    raise exc


def odd_name() -> None:
    raise ImportError("its own words", name=5)  # type: ignore[arg-type]


def odd_text() -> None:
    class Odd(Exception):
        def __str__(self) -> str:
            raise SystemExit

    raise Odd


def odd_class() -> None:
    class Odd(Exception):
        pass

    Odd.__module__ = 7  # type: ignore[assignment]
    raise Odd("its own words")


def surrogates() -> None:
    raise ValueError("its own words \ud800")


@pytest.mark.parametrize("function", [odd_notes, odd_name, odd_text, odd_class, surrogates])
@pytest.mark.parametrize("python", INTERPRETERS)
async def test_any_failure_can_be_told(function: Any, python: str) -> None:
    async with remit.connect("local:", workers=1) as session:
        for _ in range(2):
            with pytest.raises(remit.JobFailed) as caught:
                await session.call(function, python=python)
            assert caught.value.type is not None
            assert "its own words" in str(caught.value) or function is odd_text
        job = await session.start(function, python=python)
        with pytest.raises(remit.JobFailed, match="raised") as caught:
            await job.result()
        assert caught.value.type is not None


def meets_its_environment(place: str) -> Any:
    import datetime
    import os
    import sys
    import warnings

    with warnings.catch_warnings(record=True) as caught:
        warnings.warn("a user's", UserWarning, stacklevel=1)
    print("caf\u00e9", end="")
    return [
        os.environ["OF_ITS_OWN"],
        datetime.datetime(2020, 1, 1, 12).astimezone().strftime("%z"),
        place in sys.path,
        "/of/the/account" in sys.path,
        sys.dont_write_bytecode,
        len(caught),
    ]


@pytest.mark.parametrize("placement", ["return", "keep"])
@pytest.mark.parametrize("python", INTERPRETERS)
async def test_the_environment_has_the_same_effect_wherever_it_runs(
    python: str, placement: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/of/the/account")
    env = {
        "OF_ITS_OWN": "yes",
        "TZ": "XYZ-5",
        "PYTHONPATH": "/a/place:/another",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONWARNINGS": "ignore::UserWarning",
        "PYTHONIOENCODING": "latin-1",
    }
    async with remit.connect("local:") as session:
        work: Any = (meets_its_environment, "/a/place")
        job = await session.start(*work, python=python, placement=placement, env=env)
        records = [one async for one in job.receive()]
        (value,) = [one.data for one in records if one.stream == "value"]
        assert value == ["yes", "+0500", True, False, True, 0]
        stdout = b"".join(one.data for one in records if one.stream == "stdout")
        assert stdout == b"caf\xe9"
        await job.remove()


async def test_what_only_a_start_of_python_reads_is_refused() -> None:
    async with remit.connect("local:") as session:
        for name in ("PYTHONHASHSEED", "PYTHONOPTIMIZE", "PYTHONUTF8", "PYTHONHOME"):
            with pytest.raises(ValueError, match=f"{name} in env"):
                await session.start(echo, 1, env={name: "1"})
        job = await session.start(hash_of_text, env={"PYTHONHASHSEED": "0"}, placement="keep")
        assert await job.result() is True
        await job.remove()
        assert (await session.run(["env"], env={"PYTHONHASHSEED": "1"})).exit_status == 0


def hash_of_text() -> bool:
    import sys

    return sys.flags.hash_randomization == 0
