"""`max_output`: a job that prints more is stopped, or keeps its newest output only."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.harness import Collected, Refused, Wire, job
from remit._jobdir import files as jobdir
from remit._jobdir import retention
from remit._jobdir.cursor import Cursor
from remit._wire.conversation import Piece

MINIMAL = "import sys; sys.modules['ctypes'] = None"


def end_of(wire: Wire, line: str, **limits: Any) -> Collected:
    """The job's channel, to its end."""
    channel = wire.request("start", **job(line=line, spool=True, limits=limits))
    wire.accepted(channel)
    return wire.collect(channel, 60.0)


def read(wire: Wire, job_id: str, follow: bool = False) -> Collected:
    channel = wire.request("read", job=job_id, position=None, follow=follow, consume=False)
    wire.accepted(channel)
    return wire.collect(channel, 60.0)


def numbers(count: int) -> bytes:
    return b"".join(b"%d\n" % number for number in range(1, count + 1))


class TestStop:
    def test_just_the_bytes_of_the_limit_are_kept(self, wire: Wire) -> None:
        done = end_of(wire, "seq 1 100000; sleep 1000", max_output=1000)
        assert (done.job["state"], done.outcome["reason"]) == ("FAILED", "max-output")
        assert "1000 bytes" in done.outcome["error"]
        assert done.job["sizes"] == {"stdout": 1000, "stderr": 0, "records": 0}
        assert read(wire, done.job["id"]).stdout == numbers(100000)[:1000]

    def test_both_streams_count(self, wire: Wire) -> None:
        line = "printf 12345; printf 12345 >&2; sleep 0.2; printf 67890; printf 67890 >&2"
        done = end_of(wire, line, max_output=12)
        assert done.outcome["reason"] == "max-output"
        assert sum(done.job["sizes"].values()) == 12

    def test_as_much_as_the_limit_is_not_too_much(self, wire: Wire) -> None:
        done = end_of(wire, "printf 12345; printf 12345 >&2", max_output=10)
        assert (done.job["state"], done.outcome["reason"]) == ("COMPLETED", "exited")

    def test_one_that_is_over_before_it_is_stopped_did_not_complete(self, wire: Wire) -> None:
        """A pipe holds more than the limit: the whole of it is there when the job has ended."""
        done = end_of(wire, "head -c 60000 /dev/zero", max_output=10)
        assert (done.job["state"], done.outcome["reason"]) == ("FAILED", "max-output")


class TestTruncate:
    def test_the_newest_of_each_stream_are_kept(self, wire: Wire, state_dir: Path) -> None:
        line = "echo early >&2; seq 1 1000000"
        done = end_of(wire, line, max_output=5000, on_max="truncate")
        assert (done.job["state"], done.outcome["reason"]) == ("COMPLETED", "exited")
        whole = numbers(1_000_000)
        assert done.job["sizes"] == {"stdout": len(whole), "stderr": 6, "records": 0}
        got = read(wire, done.job["id"])
        assert (got.stdout, got.stderr) == (whole[-5000:], b"early\n")
        (first,) = [piece.offset for piece in got.pieces if piece.stream == 1][:1]
        assert first == len(whole) - 5000
        freed = dict(got.events)["freed"]["position"]
        assert freed == {"stdout": first, "stderr": 0, "records": 0}
        assert got.end["complete"]
        directory = state_dir / "jobs" / done.job["id"]
        assert (directory / "stdout").stat().st_blocks * 512 <= 5000 + 4096
        assert json.loads((directory / "freed.json").read_text())["stdout"] == first

    def test_a_job_that_prints_for_ever_takes_little_room(
        self, wire: Wire, state_dir: Path
    ) -> None:
        """Its index too: each line of output is a piece of its own."""
        line = "for i in $(seq 1 2000); do head -c 4096 /dev/zero; done"
        done = end_of(wire, line, max_output=8192, on_max="truncate")
        directory = state_dir / "jobs" / done.job["id"]
        index = (directory / "index").stat()
        used = sum((directory / name).stat().st_blocks * 512 for name in ("stdout", "index"))
        assert used < 8192 + 4096 + max(8192, index.st_size // 4)
        assert len(read(wire, done.job["id"]).stdout) == 8192

    def test_a_reader_that_follows_is_told_of_what_it_missed(self, wire: Wire) -> None:
        """Nothing comes twice, nothing out of order, and what does not come was told."""
        limits = {"max_output": 1 << 16, "on_max": "truncate"}
        line = "read _; seq 1 2000000"
        words = job(line=line, spool=True, limits=limits, stdin=True)
        started = wire.request("start", **words)
        wire.send(started, b"go\n")
        wire.send_eof(started)
        job_id = wire.accepted(started)["id"]
        reader = wire.request("read", job=job_id, position=None, follow=True, consume=False)
        wire.accepted(reader)
        got = wire.collect(reader, 60.0)
        whole = numbers(2_000_000)
        at = 0
        told = max([e[1]["position"]["stdout"] for e in got.events if e[0] == "freed"], default=0)
        for piece in got.pieces:
            assert at <= piece.offset
            assert piece.offset == at or piece.offset <= told
            assert piece.data == whole[piece.offset : piece.offset + len(piece.data)]
            at = piece.offset + len(piece.data)
        assert at == len(whole)

    def test_what_is_saved_is_what_is_kept(self, wire: Wire, tmp_path: Path) -> None:
        done = end_of(wire, "seq 1 1000000", max_output=5000, on_max="truncate")
        to = os.fsencode(tmp_path / "saved")
        wire.call("save", job=done.job["id"], path=to, cwd=None, stream="stdout")
        assert (tmp_path / "saved").read_bytes() == numbers(1_000_000)[-5000:]

    def test_where_nothing_can_be_freed_the_start_says_so(
        self, state_dir: Path, tmp_path: Path, bring_up: Callable[..., Wire]
    ) -> None:
        bring_up().call("jobs", after=None, limit=1)  # so that there is a directory to look at
        script = (
            f"{MINIMAL}\n"
            "import os\n"
            "from remit._jobdir import files, retention\n"
            "from remit._wire.refusal import Refused\n"
            f"fd = os.open({str(state_dir)!r}, os.O_RDONLY)\n"
            "files.prepare(fd)\n"
            "try: retention.check(fd)\n"
            "except Refused as exc: print(exc.code, exc.message, exc.hint)\n"
        )
        told = subprocess.run(
            [sys.executable, "-c", script], check=True, capture_output=True, text=True
        ).stdout
        assert told.startswith("start-failed the newest output alone cannot be kept here")
        assert "no ctypes" in told
        assert "on_max='stop'" in told


@given(
    pieces=st.lists(
        st.tuples(st.sampled_from(["stdout", "stderr"]), st.integers(1, 40)), max_size=60
    ),
    most=st.integers(1, 60),
    cuts=st.sets(st.integers(0, 60)),
    step=st.integers(1, 30),
)
def test_a_cursor_passes_over_what_was_freed_and_gives_all_else(
    tmp_path_factory: pytest.TempPathFactory,
    pieces: list[tuple[str, int]],
    most: int,
    cuts: set[int],
    step: int,
) -> None:
    """Output is written and freed while it is read; offsets stay what they were."""
    directory = tmp_path_factory.mktemp("job")
    dir_fd = os.open(directory, os.O_RDONLY)
    jobdir.prepare(dir_fd)
    files = {name: jobdir.open_output(dir_fd, name.encode()) for name in jobdir.OUTPUTS}
    index = jobdir.open_output(dir_fd, jobdir.INDEX)
    kept = retention.Retention(dir_fd, index, most)
    cursor = Cursor(dir_fd, {"stdout": 0, "stderr": 0})
    sizes = dict.fromkeys(jobdir.OUTPUTS, 0)
    given_out: list[Piece] = []
    for number, (stream, size) in enumerate(pieces):
        offset = sizes[stream]
        os.write(files[stream], bytes((offset + i) % 251 + 1 for i in range(size)))
        os.write(index, jobdir.pack_line(float(number), stream.encode(), offset, size))
        sizes[stream] += size
        if number in cuts:
            kept.cut({name: (files[name], sizes[name]) for name in sizes})
        if number % 3 == 0 and (piece := cursor.next(step)) is not None:
            given_out.append(piece)
    kept.cut({name: (files[name], sizes[name]) for name in sizes})
    given_out += iter(lambda: cursor.next(step), None)
    assert not cursor.has_more()
    cursor.close()
    at = dict.fromkeys(jobdir.OUTPUTS, 0)
    for piece in given_out:
        stream = jobdir.OUTPUTS[piece.stream - 1]
        expected = bytes((piece.offset + i) % 251 + 1 for i in range(len(piece.data)))
        assert piece.data == expected
        assert at[stream] <= piece.offset
        at[stream] = piece.offset + len(piece.data)
    assert at == sizes
    for name in jobdir.OUTPUTS:
        newest = max(0, sizes[name] - most)
        seen = {
            piece.offset + i
            for piece in given_out
            if jobdir.OUTPUTS[piece.stream - 1] == name
            for i in range(len(piece.data))
        }
        assert seen.issuperset(range(newest, sizes[name]))
    for fd in (dir_fd, index, *files.values()):
        os.close(fd)


def test_a_freed_json_that_makes_no_sense_is_told(wire: Wire, state_dir: Path) -> None:
    done = end_of(wire, "echo x")
    (state_dir / "jobs" / done.job["id"] / "freed.json").write_text("{")
    channel = wire.request("read", job=done.job["id"], position=None, follow=False, consume=False)
    with pytest.raises(Refused, match="cannot be read") as refused:
        wire.accepted(channel)
    assert refused.value.code == "state"
