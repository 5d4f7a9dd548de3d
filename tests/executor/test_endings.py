"""`remit.Executor` and Ctrl-C, forks, and interpreters that end without `shutdown`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

import remit
from remit._portal import portal

from .test_executor import until_there, wait_for


def interrupt_once_there(path: Path) -> threading.Thread:
    def interrupt() -> None:
        wait_for(path.exists)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    return thread


def test_ctrl_c_in_the_block_cancels_all(tmp_path: Path) -> None:
    never = tmp_path / "never"
    thread = interrupt_once_there(Path(f"{never}.begun"))
    with (  # noqa: PT012
        pytest.raises(KeyboardInterrupt),
        remit.Executor("local:", workers=1) as executor,
    ):
        futures = [executor.submit(until_there, str(never)) for _ in range(10)]
        futures[0].result()
    thread.join()
    assert all(future.cancelled() for future in futures)
    assert portal()._hubs == set()


def test_ctrl_c_ends_the_waiting_of_a_shutdown(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    executor = remit.Executor("local:", workers=1)
    future = executor.submit(until_there, str(gate))
    thread = interrupt_once_there(Path(f"{gate}.begun"))
    with pytest.raises(KeyboardInterrupt):
        executor.shutdown()
    thread.join()
    gate.touch()
    assert future.result() == str(gate)
    executor.shutdown()
    assert portal()._hubs == set()


def test_a_fork_is_told_that_it_is_its_parents() -> None:
    with remit.Executor("local:", workers=1) as executor:
        assert executor.submit(abs, -1).result() == 1
        pid = os.fork()
        if not pid:
            try:
                with pytest.raises(RuntimeError, match="another process"):
                    executor.submit(abs, -1)
                executor.shutdown()
                with remit.Executor("local:", workers=1) as own:
                    assert own.submit(abs, -2).result() == 2
                os._exit(0)
            finally:
                os._exit(1)
        assert os.waitpid(pid, 0)[1] == 0
        assert executor.submit(abs, -3).result() == 3


def ended(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=90
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def test_an_interpreter_that_ends_finishes_what_was_submitted() -> None:
    program = """
        import time, remit
        executor = remit.Executor("local:", workers=1)
        for number in range(5):
            future = executor.submit(time.sleep, 0.1)
            future.add_done_callback(lambda future: print(future.exception()))
    """
    assert ended(program) == "None\n" * 5


def test_an_interpreter_that_ends_takes_no_more() -> None:
    program = """
        import atexit, remit
        def late():
            try:
                executor.submit(abs, 1)
            except RuntimeError as error:
                print(error)
        atexit.register(late)
        executor = remit.Executor("local:", workers=1)
        print(executor.submit(abs, -1).result())
    """
    assert ended(program).startswith("1\nthe interpreter is ending")


def test_a_thread_that_outlives_the_main_one_goes_on() -> None:
    program = """
        import threading, remit
        executor = remit.Executor("local:", workers=1)
        def work():
            threading.main_thread().join()
            print(executor.submit(abs, -1).result())
        threading.Thread(target=work).start()
    """
    assert ended(program) == "1\n"


def test_ctrl_c_at_the_end_leaves_at_once(tmp_path: Path) -> None:
    never = tmp_path / "never"
    program = f"""
        import time, remit
        executor = remit.Executor("local:", workers=1)
        def run(path):
            open(path, "w").close()
            time.sleep(1000)
        executor.submit(run, {str(never)!r})
    """
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)], stderr=subprocess.PIPE, text=True
    )
    wait_for(never.exists)
    began = time.monotonic()
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=60)
    assert said == ""
    assert time.monotonic() - began < 30
