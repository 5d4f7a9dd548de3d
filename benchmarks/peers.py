"""Other libraries that do a part of the same, where they are installed."""

import importlib
import importlib.util
import operator
import shlex
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol

import anyio
import anyio.to_thread

from benchmarks.place import Place
from benchmarks.timing import Theirs

NAMES = ("asyncssh", "execnet", "mitogen")

Echo = Callable[[], None]


def missing() -> list[str]:
    return [name for name in NAMES if importlib.util.find_spec(name) is None]


def asyncssh_in_flight(
    place: Place, argv: Sequence[str], count: int, in_flight: int
) -> Theirs | None:
    """``count`` commands, so many at a time, over one connection; None where it is not there.

    It needs asyncio, so it has a thread and a loop of its own.
    """
    if place.ssh is None or "asyncssh" in missing():
        return None
    asyncssh: Any = importlib.import_module("asyncssh")
    words = shlex.join(argv)
    host, config = place.ssh[-1], place.ssh[place.ssh.index("-F") + 1]

    async def commands() -> float:
        async with asyncssh.connect(host, config=[config]) as connection:
            left = iter(range(count))

            async def work() -> None:
                for _ in left:
                    await connection.run(words, check=True)

            begin = time.perf_counter()
            async with anyio.create_task_group() as tasks:
                for _ in range(in_flight):
                    tasks.start_soon(work)
            return time.perf_counter() - begin

    async def run() -> float:
        return await anyio.to_thread.run_sync(anyio.run, commands)

    return run


class Caller(Protocol):
    """Calls ``operator.add`` over an ssh connection that is open already."""

    @property
    def name(self) -> str: ...

    @property
    def is_floor_in_flight(self) -> bool:
        """Whether it is one that many calls at a time are measured against."""
        ...

    def one_by_one(self, count: int) -> None: ...

    def in_flight(self, count: int, most: int) -> None: ...


@contextmanager
def callers(place: Place) -> Iterator[list[Caller]]:
    """Those that are installed, connected."""
    with ExitStack() as stack:
        found: list[Caller] = []
        if place.ssh is not None:
            for name, connect in (("execnet", _execnet), ("mitogen", _mitogen)):
                if name not in missing():
                    found.append(stack.enter_context(connect(place.ssh)))
        yield found


class _Execnet:
    name = "execnet"
    is_floor_in_flight = False  # one stream to one loop: nothing is called there

    def __init__(self, channel: Any) -> None:
        self._channel = channel

    def one_by_one(self, count: int) -> None:
        for number in range(count):
            self._channel.send((number, 1))
            assert self._channel.receive() == number + 1

    def in_flight(self, count: int, most: int) -> None:
        waiting = 0
        for number in range(count):
            self._channel.send((number, 1))
            waiting += 1
            if waiting == most:
                self._channel.receive()
                waiting -= 1
        for _ in range(waiting):
            self._channel.receive()


@contextmanager
def _execnet(ssh: Sequence[str]) -> Iterator[Caller]:
    execnet: Any = importlib.import_module("execnet")
    group = execnet.Group()
    config = ssh[ssh.index("-F") + 1]
    gateway = group.makegateway(f"ssh={ssh[-1]}//ssh_config={config}//python=python3")
    lines = "import operator\nfor item in channel:\n    channel.send(operator.add(*item))"
    yield _Execnet(gateway.remote_exec(lines))
    group.terminate(timeout=5)


class _Mitogen:
    name = "mitogen"
    is_floor_in_flight = True

    def __init__(self, context: Any) -> None:
        self._context = context

    def one_by_one(self, count: int) -> None:
        for number in range(count):
            assert self._context.call(operator.add, number, 1) == number + 1

    def in_flight(self, count: int, most: int) -> None:
        waiting: deque[Any] = deque()
        for number in range(count):
            waiting.append(self._context.call_async(operator.add, number, 1))
            if len(waiting) == most:
                waiting.popleft().get().unpickle()
        for receiver in waiting:
            receiver.get().unpickle()


@contextmanager
def _mitogen(ssh: Sequence[str]) -> Iterator[Caller]:
    importlib.import_module("mitogen.ssh")
    master: Any = importlib.import_module("mitogen.master")
    broker = master.Broker()
    try:
        router = master.Router(broker)
        context = router.ssh(
            hostname=ssh[-1],
            ssh_args=list(ssh[1:-1]),
            python_path="python3",
            check_host_keys="ignore",
        )
        yield _Mitogen(context)
    finally:
        broker.shutdown()
        broker.join()
