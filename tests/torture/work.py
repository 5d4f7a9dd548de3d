"""What a tortured job does: numbered lines on both streams, then one of several ends.

The harness imports it to know what is to come; the target's Python gets it as the text of ``-c``.
Standard library only, Python 3.6.
"""

import os
import random
import signal
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


def pieces(seed: int, lines: int, pace: float) -> "Iterator[tuple[float, int, bytes]]":
    """What is written, in order: (seconds to wait before, fd, bytes).

    ``pace`` is the mean wait. Without one the lines come in bursts, as fast as they are read.
    """
    dice = random.Random(seed)
    written = {1: 0, 2: 0}
    left = lines
    most = 4 if pace else 3000
    while left:
        fd = 1 if dice.random() < 0.7 else 2
        count = min(left, 1 + int(dice.random() * most))
        first = written[fd]
        written[fd] += count
        left -= count
        line = "?oe"[fd] + " {:09} of job " + str(seed) + "\n"
        text = "".join(map(line.format, range(first, first + count)))
        yield 2 * pace * dice.random(), fd, text.encode()


def note(path: str, what: str) -> None:
    """Adds a line to the job's own diary: the harness compares it with what remit tells."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(fd, f"{what} {time.monotonic()} {os.getpid()}\n".encode())
    os.close(fd)


def fork() -> int:
    """At the process limit it is tried again: that is nothing of the job's."""
    while True:
        try:
            return os.fork()
        except BlockingIOError:
            time.sleep(0.05)


def leave_behind(kind: str, mark: str) -> None:
    """A daemon of the job's: ``quiet``, ``holding`` its pipes, or ``bare``, which also dropped its
    environment."""
    child = fork()
    if child:
        os.waitpid(child, 0)
        return
    os.setsid()
    if fork():
        os._exit(0)
    if kind != "holding":
        null = os.open(os.devnull, os.O_RDWR)
        for fd in range(3):
            os.dup2(null, fd)
    if kind == "bare":
        argv = [sys.executable, "-I", "-S", "-c", "import time; time.sleep(600)", mark]
        os.execve(sys.executable, argv, {})
    time.sleep(600)
    os._exit(0)


def beat(diary: str) -> None:
    """Says in a diary of its own that it runs, for two minutes: the work of what is cancelled.

    A function by itself: it is sent as one, too.
    """
    import os
    import time

    for _ in range(2400):
        fd = os.open(diary, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(fd, f"beat {time.monotonic()} {os.getpid()}\n".encode())
        os.close(fd)
        time.sleep(0.05)


def main(
    diary: str,
    mark: str,
    seed: str,
    lines: str,
    pace: str,
    status: str,
    ending: str,
    daemons: str,
) -> None:
    note(diary, "began")
    for kind in filter(None, daemons.split(",")):
        leave_behind(kind, mark)
    for pause, fd, data in pieces(int(seed), int(lines), float(pace)):
        time.sleep(pause)
        while data:
            data = data[os.write(fd, data) :]
    note(diary, "ended")
    if ending:
        number = getattr(signal, ending)
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        time.sleep(60)
    os._exit(int(status))


if __name__ == "__main__":
    if len(sys.argv) == 2:
        beat(sys.argv[1])
    else:
        main(*sys.argv[1:])
