"""Ctrl-C in the middle of a call: it is broken off, and leaves nothing."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import FrameType

import pytest

import remit
from remit import blocking
from remit._portal import Portal, portal


@pytest.fixture
def session() -> Iterator[blocking.Session]:
    with blocking.connect("local:") as session:
        session.call(len, "")
        yield session


def interrupted(after: float, function: Callable[[], object]) -> None:
    """Ctrl-C, so many seconds from now, has to end what ``function`` does."""
    timer = threading.Timer(after, os.kill, (os.getpid(), signal.SIGINT))
    try:
        timer.start()
        function()
        while True:  # it was done before: nothing is to be broken off
            time.sleep(1)
    except KeyboardInterrupt:
        timer.join()


class Interrupts:
    """Raises KeyboardInterrupt in the main thread at random, ``pause`` seconds apart at most, while
    that waits for a call: just behind it nobody could know whether the caller has the result."""

    def __init__(self, pause: float) -> None:
        self.count = 0
        self._pause = pause
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._send)

    def __enter__(self) -> Interrupts:
        self._before = signal.signal(signal.SIGUSR1, self._take)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._thread.join()
        signal.signal(signal.SIGUSR1, self._before)

    def _send(self) -> None:
        main = threading.main_thread().ident
        assert main is not None
        while not self._over.wait(random.uniform(0, self._pause)):
            signal.pthread_kill(main, signal.SIGUSR1)

    def _take(self, number: int, frame: FrameType | None) -> None:
        while frame is not None:
            if frame.f_code is Portal.call.__code__:
                self.count += 1
                raise KeyboardInterrupt
            frame = frame.f_back


def sleep(seconds: float) -> None:
    time.sleep(seconds)


LONG: dict[str, Callable[[blocking.Session, blocking.Job], object]] = {
    "run": lambda session, job: session.run(["sleep", "1000"]),
    "run kept": lambda session, job: session.run(["sleep", "1000"], placement="keep"),
    "call": lambda session, job: session.call(sleep, 1000),
    "wait": lambda session, job: job.wait(),
    "result": lambda session, job: job.result(),
    "receive": lambda session, job: list(job.receive()),
    "changes": lambda session, job: list(job.changes()),
    "session changes": lambda session, job: list(session.changes()),
}


@pytest.mark.parametrize("name", LONG)
def test_a_call_that_waits_is_broken_off(session: blocking.Session, name: str) -> None:
    job = session.start(["sleep", "1000"])
    for after in (0.0, 0.001, random.uniform(0, 0.1)):
        interrupted(after, lambda: LONG[name](session, job))
    assert job.state == "RUNNING"
    assert [info.id for info in session.jobs()] == [job.id]
    assert session.call(abs, -1) == 1


@pytest.mark.parametrize("placement", ["return", "keep"])
def test_a_start_is_taken_back_at_any_moment(session: blocking.Session, placement: str) -> None:
    given_up = 0
    with Interrupts(0.01):
        for _ in range(30):
            job_id, job = remit.new_job_id(), None
            try:
                job = session.start(["sleep", "1000"], id=job_id, placement=placement)
            except KeyboardInterrupt:
                given_up += 1
            while job is not None and not job.state.finished:
                with suppress(KeyboardInterrupt):
                    job.stop()
    assert given_up
    until_none_runs(session)


def test_an_opening_is_taken_back_at_any_moment() -> None:
    with Interrupts(0.2) as interrupts:
        while interrupts.count < 5:
            with suppress(KeyboardInterrupt), blocking.connect("local:") as session:
                session.run(["true"])
    with blocking.connect("local:"):
        assert len(portal()._hubs) == 1


def test_no_record_is_lost_nor_comes_twice(session: blocking.Session) -> None:
    """Wherever the reader is interrupted it goes on where it was."""
    job = session.start("for i in $(seq 300); do echo $i; sleep 0.001; done")
    reader, got, is_over = job.receive(), list[remit.Record](), False
    with Interrupts(0.02) as interrupts:
        while not is_over:
            with suppress(KeyboardInterrupt):
                for record in reader:
                    got.append(record)
                is_over = True
    assert b"".join(record.data for record in got) == b"".join(b"%d\n" % n for n in range(1, 301))
    assert interrupts.count


def until_none_runs(session: blocking.Session) -> None:
    """Who interrupted twice did not wait for it."""
    deadline = time.monotonic() + 60
    while running := [info.id for info in session.jobs() if not info.state.finished]:
        assert time.monotonic() < deadline, running
        time.sleep(0.05)


def test_a_second_one_does_not_wait(tmp_path: Path) -> None:
    """For a session to be closed that has a job which takes 5 s to be stopped."""
    told = tmp_path / "told"
    hub = blocking.Hub.open()
    session = hub.connect("local:")
    job = session.start(f"trap 'echo $$ > {told}' TERM; echo up; while :; do sleep 0.05; done")
    next(job.receive())
    thread = threading.Thread(target=interrupt_twice, args=(told,))
    try:
        thread.start()
        hub.aclose()
    except KeyboardInterrupt:
        state = session.state
    thread.join()
    assert state == "OPEN"
    hub.aclose()
    assert session.state == "CLOSED"


def interrupt_twice(path: Path) -> None:
    """Once it has words."""
    while not (path.exists() and path.read_text()):
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGINT)
