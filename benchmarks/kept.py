"""Jobs that are kept: how fast they may print, what goes through the agent, how they are listed."""

import json
import os
import subprocess
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import remit
from benchmarks.memory import agent_of
from benchmarks.place import Place
from benchmarks.table import Row, at_least, at_most
from benchmarks.timing import compare, timed, timed_async
from remit import new_job_id

_MIB = 1 << 20


async def measure(place: Place) -> list[Row]:
    return [*await _printing(place), *await _reading(place), *await _listing(place)]


async def _printing(place: Place) -> list[Row]:
    size = place.amount(512) * _MIB
    line = f"head -c {size} /dev/zero"
    file = place.directory / "plain"
    through = []
    async with remit.connect(place.local_target("kept")) as session:
        agent = agent_of(session)

        async def ours() -> float:
            before = _bytes_through(agent)
            begin = time.perf_counter()
            job = await session.start(line, placement="keep")
            await job.wait()
            seconds = time.perf_counter() - begin
            through.append(_bytes_through(agent) - before)
            await job.remove()
            return seconds

        def theirs() -> None:
            subprocess.run(["/bin/sh", "-c", f"{line} > {file}"], check=True)

        pair = await compare(ours, timed(theirs), 3)
    file.unlink()
    rates = size / pair.ours / 1e6, size / pair.theirs / 1e6
    return [
        Row(
            "rate of a kept job's output",
            place.loop,
            pair.rate_ratio,
            at_least(0.6),
            f"{rates[0]:.0f} MB/s, > file {rates[1]:.0f} MB/s",
        ),
        Row(
            "share of it that goes through the agent",
            place.loop,
            max(through) / size,
            at_most(0.001),
            f"{max(through)} of {size} bytes; its own talk is among them",
        ),
    ]


async def _reading(place: Place) -> list[Row]:
    size = place.amount(200) * 1_000_000
    lines = {"zeros": f"head -c {size} /dev/zero", "short lines": f"seq 1 {size // 8}"}
    target = place.local_target("reading")
    rows = []
    async with remit.connect(target) as session:
        for what, line in lines.items():
            job = await session.start(line, placement="keep")
            await job.wait()
            jobs = place.directory / f"reading-{place.loop}" / "jobs"
            pair = await compare(_read_by(job), timed(_read_by_cat(jobs / job.id / "stdout")), 3)
            rates = size / pair.ours / 1e6, size / pair.theirs / 1e6
            rows.append(
                Row(
                    f"reading kept output, {what}",
                    place.loop,
                    pair.rate_ratio,
                    at_least(0.1),
                    f"{rates[0]:.0f} MB/s, cat into a pipe {rates[1]:.0f} MB/s",
                )
            )
            await job.remove()
    return rows


def _read_by(job: remit.Job) -> Callable[[], Awaitable[float]]:
    async def read() -> None:
        async for _ in job.receive(keep=True):
            pass

    return timed_async(read)


def _read_by_cat(path: Path) -> Callable[[], None]:
    def read() -> None:
        with subprocess.Popen(["cat", path], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            while os.read(process.stdout.fileno(), 1 << 18):
                pass

    return read


def _bytes_through(pid: int) -> int:
    fields = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
    return int(fields["rchar"]) + int(fields["wchar"])


async def _listing(place: Place) -> list[Row]:
    count = place.amount(10_000)
    target = place.local_target("listing")
    async with remit.connect(target) as session:
        job = await session.start("echo done", placement="keep")
        await job.wait()
        _multiply(place.directory / f"listing-{place.loop}" / "jobs" / job.id, count)
        times = []
        for _ in range(3):
            begin = time.perf_counter()
            listed = await session.jobs()
            times.append(time.perf_counter() - begin)
            assert len(listed) == count
    return [Row(f"{count} finished kept jobs listed", place.loop, min(times), at_most(1.0, "s"))]


def _multiply(job: Path, count: int) -> None:
    """Makes copies of a finished job's directory, each with an id of its own."""
    files = {path.name: path.read_bytes() for path in job.iterdir() if path.is_file()}
    described = json.loads(files.pop("job.json"))
    for _ in range(count - 1):
        copy = job.with_name(new_job_id())
        copy.mkdir(mode=0o700)
        for name, content in files.items():
            (copy / name).write_bytes(content)
        (copy / "job.json").write_text(json.dumps({**described, "id": copy.name}))
        (copy / "ask").mkdir(mode=0o700)
        os.mkfifo(copy / "wake", 0o600)
