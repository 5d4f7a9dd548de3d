"""`remit.blocking` at work: in one thread, in many, over forks, and at the end of the process."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator

import pytest

import remit
from agent.harness import wait_until_gone
from remit import blocking


@pytest.fixture
def session() -> Iterator[blocking.Session]:
    with blocking.connect("local:") as session:
        yield session


def count(end: int) -> Iterator[int]:
    yield from range(end)


def test_a_session_does_what_one_with_await_does(session: blocking.Session) -> None:
    assert session.run(["printf", "%s", "a b"]) == remit.CommandResult(0, b"a b", b"")
    assert session.call(divmod, 7, 2) == (3, 1)
    assert session.run(count, 3) == [0, 1, 2]
    assert (session.target, session.location, session.state) == ("local:", "localhost", "OPEN")
    assert repr(session) == "<remit.blocking.Session local: OPEN, 0 return jobs run>"
    with pytest.raises(remit.JobFailed, match="status 3"):
        session.run("exit 3", check=True)
    with pytest.raises(ValueError, match="placement"):
        session.start(["true"], placement="nowhere")


def test_a_job_is_followed_fed_and_ended(session: blocking.Session) -> None:
    job = session.start(["cat"], stdin=remit.PIPE, name="mine")
    job.send(b"one\n")
    records = job.receive()
    first = next(records)
    assert (first.data, first.job) == (b"one\n", job.id)
    job.send(b"two\n")
    job.send_eof()
    assert [record.data for record in records] == [b"two\n"]
    assert list(job.changes())[-1] == job.wait() == "COMPLETED"
    assert session.job("mine").id == job.id
    assert repr(job) == f"<remit.blocking.Job {job.id} 'mine' COMPLETED on localhost>"

    sleeper = session.start(["sleep", "1000"])
    sleeper.suspend()
    assert sleeper.state == "SUSPENDED"
    sleeper.resume()
    sleeper.signal("WINCH")
    assert sleeper.stop() == []
    sleeper.refresh()
    with pytest.raises(remit.JobFailed):
        sleeper.result()
    assert {info.id for info in session.jobs()} == {job.id, sleeper.id}
    job.remove()
    sleeper.remove()
    assert session.jobs() == []


def test_a_reader_that_is_given_up_leaves_its_record(session: blocking.Session) -> None:
    job = session.start("echo out")
    job.wait()
    reader = job.receive()
    assert next(reader).data == b"out\n"
    reader.aclose()
    assert job.result().stdout == b"out\n"


def test_one_job_over_a_session_of_its_own() -> None:
    with blocking.start("local:", ["echo", "out"], silence=7.0, merge=True) as job:
        assert job.result().stdout == b"out\n"
    with (
        pytest.raises(KeyError, match="mine"),
        blocking.start("local:", ["sleep", "1000"]) as sleeper,
    ):
        raise KeyError("mine")
    assert sleeper.state == "STOPPED"


def test_hubs_have_sessions() -> None:
    hub = blocking.Hub.open()
    session = hub.connect("local:")
    assert hub.session("local:").call(len, "abc") == 3
    session.aclose()
    with pytest.raises(remit.SessionClosed, match="is closed"):
        session.run(["true"])
    shared = hub.session("local:")
    hub.aclose()
    hub.aclose()
    assert shared.state == "CLOSED"
    with pytest.raises(RuntimeError, match="not open"):
        hub.connect("local:")
    with pytest.raises(RuntimeError, match="not open"):
        blocking.open_hub().connect("local:")
    with blocking.open_hub() as again, pytest.raises(RuntimeError, match="entered once"):
        again.__enter__()


def test_what_can_never_be_right_is_told_at_once() -> None:
    with pytest.raises(ValueError, match="silence"), blocking.connect("local:", silence=-1):
        raise AssertionError
    with pytest.raises(remit.TargetError), blocking.connect("nonsense:there"):
        raise AssertionError


def test_many_threads_call_at_the_same_time(session: blocking.Session) -> None:
    got: dict[int, object] = {}

    def work(number: int) -> None:
        run = session.run(["echo", str(number)])
        got[number] = (int(run.stdout), session.call(abs, -number))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == {number: (number, number) for number in range(12)}


def test_its_own_event_loop_cannot_wait_for_itself(session: blocking.Session) -> None:
    raised: list[BaseException] = []

    class Lines:
        """Of an async iterable of stdin, which is read in that event loop."""

        def __aiter__(self) -> Lines:
            return self

        async def __anext__(self) -> bytes:
            try:
                session.run(["true"])
            except RuntimeError as exc:
                raised.append(exc)
            raise StopAsyncIteration

    assert session.run(["cat"], stdin=Lines()).stdout == b""
    assert "its own event loop" in str(raised[0])


def sleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def test_blocks_lines_and_maps(session: blocking.Session) -> None:
    with session.start("echo one; echo two; sleep 1000") as job:
        reader = job.lines()
        assert [next(reader), next(reader)] == ["one", "two"]
        assert session.job(job.id) == job
        reader.aclose()
    assert session.jobs() == []
    with session.start("echo out") as short:
        assert [short.result().text, short.result().text] == ["out\n"] * 2
    values = session.map(sleep, [0.0, 0.0, 1000, 1000], limit=2)
    assert [next(values), next(values)] == [0.0, 0.0]
    del values
    assert list(session.map(abs, range(-3, 0))) == [3, 2, 1]
    assert session.peer is not None


# -- processes


def in_a_child(function: Callable[[], object]) -> None:
    """Runs it in a fork, which must come to its end."""
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            function()
            os.write(write, b"done")
        except BaseException as exc:
            os.write(write, repr(exc).encode())
        finally:
            os._exit(0)
    os.close(write)
    with open(read, "rb") as told:
        assert told.read() == b"done"
    os.waitpid(pid, 0)


def test_a_fork_has_a_portal_of_its_own(session: blocking.Session) -> None:
    job = session.start(["cat"], stdin=remit.PIPE)
    reader = job.receive()

    def child() -> None:
        uses: list[Callable[[], object]] = [
            lambda: session.run(["true"]),
            lambda: job.send(b"x"),
            job.wait,
            lambda: next(reader),
        ]
        for use in uses:
            with pytest.raises(RuntimeError, match="another process"):
                use()
        session.aclose()  # it is the parent's
        with blocking.connect("local:") as own:
            assert own.call(os.getppid) != os.getpid()
            assert own.run(["echo", "own"]).stdout == b"own\n"

    in_a_child(child)
    in_a_child(child)
    assert session.run(["echo", "still"]).stdout == b"still\n"
    job.send(b"there")
    assert next(reader).data == b"there"


def test_a_fork_may_be_made_by_any_thread(session: blocking.Session) -> None:
    stop = threading.Event()

    def call_on() -> None:
        while not stop.is_set():
            session.call(len, "abc")

    thread = threading.Thread(target=call_on)
    thread.start()
    try:
        for _ in range(5):
            in_a_child(lambda: blocking.start("local:", ["true"]).__enter__().wait())
    finally:
        stop.set()
        thread.join()
    assert session.run(["true"]).exit_status == 0


def ended(program: str, *, status: int = 0) -> str:
    """What a program of its own prints. It has to end, and say nothing else."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (status, ""), done.stderr
    return done.stdout


ENDINGS = {
    "nothing closed": """
        from remit import blocking
        hub = blocking.Hub.open()
        session = hub.connect("local:")
        job = session.start(["sleep", "1000"])
        print(job.id)
    """,
    "exit in a block": """
        import sys
        from remit import blocking
        with blocking.connect("local:") as session:
            print(session.start(["sleep", "1000"]).id)
            sys.exit()
    """,
    "a generator is left": """
        from remit import blocking
        block = blocking.connect("local:")
        session = block.__enter__()
        job = session.start(["sleep", "1000"])
        records = job.receive()
        print(job.id)
    """,
    "another thread goes on": """
        import threading
        from remit import blocking
        session = blocking.Hub.open().connect("local:")
        def work():
            threading.main_thread().join()
            print(session.start(["sleep", "1000"]).id)
        threading.Thread(target=work).start()
    """,
    "a thread waits": """
        import threading
        from remit import blocking
        session = blocking.Hub.open().connect("local:")
        job = session.start(["sleep", "1000"])
        print(job.id)
        threading.Thread(target=job.wait, daemon=True).start()
    """,
    "a fork ends beside": """
        import os, sys
        from remit import blocking
        session = blocking.Hub.open().connect("local:")
        if not os.fork():
            sys.exit()
        os.wait()
        print(session.start(["sleep", "1000"]).id)
    """,
    "in atexit": """
        import atexit
        from remit import blocking
        session = blocking.Hub.open().connect("local:")
        atexit.register(lambda: print(session.start(["sleep", "1000"]).id))
    """,
}


@pytest.mark.parametrize("program", ENDINGS.values(), ids=ENDINGS)
def test_an_interpreter_ends_that_closed_nothing(program: str) -> None:
    job_id = ended(program).strip()
    assert len(job_id) == 13
    wait_until_gone(job_id)


def test_hubs_and_readings_tell_how_they_stand() -> None:
    hub = remit.blocking.Hub()
    assert repr(hub) == "<remit.blocking.Hub not open>"
    with hub:
        assert repr(hub) == "<remit.blocking.Hub open, 0 sessions>"
        job = hub.connect("local:").start(["true"])
        assert repr(job.receive()).startswith("<remit.blocking.Receiver ")
