"""Reading kept output: in order, from anywhere, once; and directories that make no sense."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.harness import Collected, Refused, Wire, job, new_id
from remit._jobdir import files as jobdir
from remit._jobdir.cursor import Cursor
from remit._wire import refusal
from remit._wire.conversation import Piece
from remit._wire.credit import LEAST_CHARGE
from remit._wire.frames import DATA
from remit._wire.msgpack import unpack
from testbed import processes

LINES = 200_000
ROOT = Path(__file__).parents[2]


def kept(wire: Wire, line: str, **args: Any) -> str:
    """Runs a kept job to its end; its id."""
    channel = wire.request("start", **job(line=line, spool=True, **args))
    job_id: str = wire.accepted(channel)["id"]
    wire.collect(channel, 60)
    return job_id


def read(wire: Wire, job_id: str, **args: Any) -> int:
    asked = {"job": job_id, "position": None, "follow": True, "consume": False, **args}
    return wire.request("read", asked.pop("credit", 1 << 40), **asked)


def helpers_of(wire: Wire) -> list[int]:
    """The processes in which its agent touches directories."""
    pids = [
        process.pid
        for process in processes.everyone()
        if process.parent == wire.agent_pid and process.name != "remit-keep"
    ]
    assert pids
    return pids


def read_all(wire: Wire, job_id: str, **args: Any) -> Collected:
    channel = read(wire, job_id, **args)
    wire.accepted(channel)
    return wire.collect(channel, 60)


def test_many_small_pieces_keep_to_a_small_credit(wire: Wire) -> None:
    """Each costs more than it has bytes."""
    job_id = kept(wire, "for i in 1 2 3 4 5 6 7 8 9; do echo $i; sleep 0.02; done")
    channel = read(wire, job_id, credit=1)
    wire.accepted(channel)
    said = b""
    while len(said) < 18:
        said += wire.piece(channel).data
        wire.grant(channel, LEAST_CHARGE + 100)
    assert said == b"1\n2\n3\n4\n5\n6\n7\n8\n9\n"
    assert wire.collect(channel, 60).end["complete"] is True


# -- the cursor

pieces = st.lists(st.tuples(st.sampled_from(["stdout", "stderr"]), st.integers(1, 9)), max_size=30)


@given(
    pieces=pieces,
    part=st.tuples(st.integers(0, 300), st.integers(0, 300)),
    most=st.integers(1, 20),
    tail=st.tuples(st.integers(0, 5), st.integers(0, 5)),
)
def test_a_cursor_gives_all_after_its_position_once_and_in_order(
    tmp_path_factory: pytest.TempPathFactory,
    pieces: list[tuple[str, int]],
    part: tuple[int, int],
    most: int,
    tail: tuple[int, int],
) -> None:
    directory = tmp_path_factory.mktemp("job")
    files = {"stdout": b"", "stderr": b""}
    index = b""
    order = []  # stream and offset of each byte that the index tells of
    for at, (stream, size) in enumerate(pieces):
        offset = len(files[stream])
        files[stream] += bytes((offset + i) % 251 for i in range(size))
        index += jobdir.pack_line(float(at), stream.encode(), offset, size)
        order += [(stream, offset + i) for i in range(size)]
    position = {
        stream: min(wanted, len(files[stream])) for stream, wanted in zip(files, part, strict=True)
    }
    for stream, size in zip(files, tail, strict=True):
        order += [(stream, len(files[stream]) + i) for i in range(size)]
        files[stream] += bytes((len(files[stream]) + i) % 251 for i in range(size))
    (directory / "index").write_bytes(index + b"1234567890.123456 std")  # cut short by a crash
    for stream, data in files.items():
        (directory / stream).write_bytes(data)

    dir_fd = os.open(directory, os.O_RDONLY)
    cursor = Cursor(dir_fd, position)
    given_out: list[Piece] = list(iter(lambda: cursor.next(most), None))
    given_out += iter(lambda: cursor.rest(most, 0.0), None)
    assert not cursor.has_more()
    cursor.close()
    os.close(dir_fd)
    shutil.rmtree(directory)

    seen = []
    for piece in given_out:
        stream = ("stdout", "stderr")[piece.stream - 1]
        assert 0 < len(piece.data) <= most
        assert piece.data == files[stream][piece.offset : piece.offset + len(piece.data)]
        seen += [(stream, piece.offset + i) for i in range(len(piece.data))]
    assert seen == [(stream, offset) for stream, offset in order if offset >= position[stream]]
    assert [piece.seq for piece in given_out] == sorted(piece.seq for piece in given_out)


def test_the_middle_of_a_long_index_is_found_at_once(tmp_path: Path) -> None:
    count, size = 400_000, 1 << 18  # 100 GiB of output
    lines = [
        jobdir.pack_line(float(at), b"stderr" if at == 7 else b"stdout", 0 if at == 7 else at, 1)
        for at in range(count)
    ]
    with (tmp_path / "index").open("wb") as file:
        file.writelines(lines)
    for stream in ("stdout", "stderr"):
        (tmp_path / stream).touch()
    os.truncate(tmp_path / "stdout", count * size)
    os.truncate(tmp_path / "stderr", 1)
    dir_fd = os.open(tmp_path, os.O_RDONLY)
    began = time.thread_time()
    cursor = Cursor(dir_fd, {"stdout": count // 2, "stderr": 1})
    piece = cursor.next(1)
    assert time.thread_time() - began < 1
    assert piece is not None
    assert (piece.seq, piece.offset) == (count // 2, count // 2)
    cursor.close()
    os.close(dir_fd)


# -- reading


def test_both_streams_come_in_the_order_in_which_they_were_written(
    wire: Wire, tmp_path: Path
) -> None:
    until = f"until [ -e {tmp_path}/%s ]; do sleep 0.02; done"
    each = f"echo $i; {until % '$i'}; echo e$i >&2; {until % 'e$i'}"
    channel = wire.request("start", **job(line=f"for i in 1 2 3; do {each}; done", spool=True))
    job_id = wire.accepted(channel)["id"]
    along = read(wire, job_id)
    wire.accepted(along)
    for word in ("1", "e1", "2", "e2", "3", "e3"):
        assert wire.piece(along).data == f"{word}\n".encode()
        (tmp_path / word).touch()
    done = read_all(wire, job_id)
    assert [piece.data for piece in done.pieces] == [
        b"1\n",
        b"e1\n",
        b"2\n",
        b"e2\n",
        b"3\n",
        b"e3\n",
    ]
    assert [piece.seq for piece in done.pieces] == list(range(6))
    assert done.end["complete"]
    assert done.end["job"]["has_more"]
    again = read_all(wire, job_id, position={"stdout": 3, "stderr": 8})
    assert (again.stdout, again.stderr) == (b"\n3\n", b"\n")


def test_output_is_followed_as_it_is_written(wire: Wire, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    line = f"while read word; do echo said $word; done < {gate}"
    channel = wire.request("start", **job(line=line, spool=True))
    job_id = wire.accepted(channel)["id"]
    following = read(wire, job_id)
    wire.accepted(following)
    began = time.monotonic()
    with gate.open("w") as words:
        for word in ("one", "two", "three", "four", "five", "six", "seven"):
            words.write(f"{word}\n")
            words.flush()
            assert wire.piece(following).data == f"said {word}\n".encode()
    # Not by the look once a second: each word is written just after one.
    assert time.monotonic() - began < 5
    done = wire.collect(following)
    assert (done.stdout, done.end["complete"]) == (b"", True)


def test_a_killed_helper_is_no_end(wire: Wire, tmp_path: Path) -> None:
    """Neither of what is read and watched, nor of what is used up."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    channel = wire.request("start", **job(line=f"echo one; cat {gate}", spool=True))
    job_id = wire.accepted(channel)["id"]
    following, watching = read(wire, job_id, consume=True), wire.request("watch", job=job_id)
    wire.accepted(following)
    wire.accepted(watching)
    assert wire.piece(following).data == b"one\n"
    helpers = helpers_of(wire)
    for pid in helpers:
        os.kill(pid, signal.SIGSTOP)
    gate.write_text("two\n")
    wire.event(following, "used", position={"stdout": 4})
    assert wire.run("echo", "x").stdout == b"x\n"
    processes.kill(helpers)  # in the middle of a turn
    assert wire.piece(following).data == b"two\n"
    wire.event(following, "used", position={"stdout": 8})
    done = wire.collect(following)
    assert (done.end["complete"], done.job["state"]) == (True, "COMPLETED")
    assert done.job["has_more"] is False
    assert wire.collect(watching).job["state"] == "COMPLETED"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: (path / "freed.json").write_text("{"),
        lambda path: os.truncate(path / "index", 1 << 20),
    ],
    ids=["freed", "index"],
)
def test_what_cannot_be_read_any_more_is_no_end(
    wire: Wire, state_dir: Path, spoil: Callable[[Path], object]
) -> None:
    """The reader has what came before, and is told that it was not all."""
    channel = wire.request("start", **job(line="echo one; sleep 1000", spool=True))
    job_id = wire.accepted(channel)["id"]
    following = read(wire, job_id)
    wire.accepted(following)
    assert wire.piece(following).data == b"one\n"
    spoil(state_dir / "jobs" / job_id)
    error = wire.collect(following).end["error"]
    assert error["code"] == "state"
    assert f"the output of job {job_id} cannot be read" in error["message"]


def test_output_that_was_cut_off_is_not_all(wire: Wire, state_dir: Path) -> None:
    job_id = kept(wire, "echo one")
    os.truncate(state_dir / "jobs" / job_id / "stdout", 2)
    assert read_all(wire, job_id).end["complete"] is False
    channel = read(wire, job_id, consume=True)
    wire.accepted(channel)
    assert wire.news(channel, "all-sent")["complete"] is False
    wire.event(channel, "used", position={"stdout": 2})
    assert wire.collect(channel).end["complete"] is False


def test_without_follow_it_ends_with_what_there_is(wire: Wire) -> None:
    channel = wire.request("start", **job(line="echo now; sleep 1000", spool=True))
    job_id = wire.accepted(channel)["id"]
    until = time.monotonic() + 10
    while not (done := read_all(wire, job_id, follow=False)).pieces:
        assert time.monotonic() < until
    assert (done.stdout, done.end["complete"]) == (b"now\n", False)
    assert done.end["job"]["state"] == "RUNNING"
    wire.call("stop", job=job_id, grace=5.0)


def test_no_more_is_sent_than_was_allowed(wire: Wire) -> None:
    job_id = kept(wire, "head -c 1000000 /dev/zero")
    channel = read(wire, job_id, credit=1000)
    wire.accepted(channel)
    assert len(wire.piece(channel).data) == 1000
    wire.settle(0.3)
    assert [event for event in wire.arrived if event.kind == DATA] == []
    wire.grant(channel, 999_000)
    assert len(wire.collect(channel).stdout) == 999_000


def test_the_end_needs_no_credit(wire: Wire) -> None:
    job_id = kept(wire, "exit 0")
    assert read_all(wire, job_id, credit=0).end["complete"]


def test_each_line_comes_once_over_two_consuming_readers_and_a_kill(
    bring_up: Callable[..., Wire],
) -> None:
    first = bring_up()
    job_id = kept(first, f"seq {LINES}")
    channel = read(first, job_id, consume=True, credit=1 << 18)
    first.accepted(channel)
    got, used = b"", 0
    while used < 600_000:
        piece = first.piece(channel)
        assert piece.offset == used
        got += piece.data
        used += len(piece.data)
        first.event(channel, "used", position={"stdout": used, "stderr": 0})
        first.grant(channel, len(piece.data))
        first.flush()
    # The last of it is in hand and not used up; then the agent dies.
    in_hand = first.piece(channel)
    until = time.monotonic() + 10
    while first.call("find", name=job_id)["jobs"][0]["used"]["stdout"] != used:
        assert time.monotonic() < until
    first.kill()

    second = bring_up()
    channel = read(second, job_id, consume=True)
    position = second.accepted(channel)["position"]
    assert position == {"stdout": used, "stderr": 0, "records": 0}
    again = b""
    while len(got) + len(again) < len(b"".join(b"%d\n" % n for n in range(1, LINES + 1))):
        again += second.piece(channel).data
    assert again.startswith(in_hand.data)
    assert got + again == b"".join(b"%d\n" % number for number in range(1, LINES + 1))
    end = {"stdout": len(got + again), "stderr": 0, "records": 0}
    assert second.news(channel, "all-sent") == {"position": end}
    assert second.call("find", name=job_id)["jobs"][0]["has_more"]
    second.event(channel, "used", position={"stdout": len(got + again), "stderr": 0})
    assert second.collect(channel).end["job"]["has_more"] is False


def test_a_new_consuming_reader_takes_over_and_the_earlier_is_told(
    bring_up: Callable[..., Wire],
) -> None:
    one, other = bring_up(), bring_up()
    channel = one.request("start", **job(line="echo x; sleep 1000", spool=True))
    job_id = one.accepted(channel)["id"]
    earlier = read(one, job_id, consume=True)
    one.accepted(earlier)
    one.piece(earlier)
    looking = read(one, job_id)
    one.accepted(looking)
    later = read(other, job_id, consume=True)
    assert other.accepted(later)["position"] == {"stdout": 0, "stderr": 0, "records": 0}
    told = one.collect(earlier)
    assert [name for name, _ in told.events] == ["superseded"]
    assert told.end["complete"] is False
    # What the earlier one says now counts no more, and who only looks goes on.
    other.event(later, "used", position={"stdout": 2, "stderr": 0})
    other.close_channel(later)
    assert one.piece(looking).data == b"x\n"
    until = time.monotonic() + 10
    while other.call("find", name=job_id)["jobs"][0]["used"]["stdout"] != 2:
        assert time.monotonic() < until
    other.call("remove", job=job_id, force=True)


def test_the_next_reader_begins_where_the_last_one_left(wire: Wire, tmp_path: Path) -> None:
    """However long it takes to write that down."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    channel = wire.request("start", **job(line=f"echo one; cat {gate}", spool=True))
    job_id = wire.accepted(channel)["id"]
    earlier = read(wire, job_id, consume=True)
    wire.accepted(earlier)
    assert wire.piece(earlier).data == b"one\n"
    helpers = helpers_of(wire)
    for pid in helpers:
        os.kill(pid, signal.SIGSTOP)
    wire.event(earlier, "used", position={"stdout": 4})
    wire.close_channel(earlier)
    later, looking = read(wire, job_id, consume=True), read(wire, job_id)
    given_up = read(wire, job_id, consume=True)
    wire.close_channel(given_up)
    assert wire.run("echo", "x").stdout == b"x\n"
    for pid in helpers:
        os.kill(pid, signal.SIGCONT)
    assert wire.accepted(later)["position"]["stdout"] == 4
    assert wire.accepted(looking)["position"]["stdout"] == 4
    gate.write_text("two\n")
    assert wire.piece(later).data == b"two\n"
    wire.event(later, "used", position={"stdout": 8})
    assert wire.collect(later).end["complete"] is True


def test_marks_are_written_at_the_end_of_the_session(bring_up: Callable[..., Wire]) -> None:
    wire = bring_up()
    job_id = kept(wire, "echo 1; echo 2")
    channel = read(wire, job_id, consume=True)
    wire.accepted(channel)
    wire.piece(channel)
    wire.event(channel, "used", position={"stdout": 2, "stderr": 0})
    wire.goodbye()
    (left,) = bring_up().call("jobs", after=None, limit=10)["jobs"]
    assert left["used"]["stdout"] == 2


def test_save_writes_a_whole_private_file_on_the_target(wire: Wire, tmp_path: Path) -> None:
    job_id = kept(wire, "head -c 3000000 /dev/urandom; echo problem >&2")
    answer = wire.call("save", job=job_id, path=b"out", cwd=os.fsencode(tmp_path), stream="stderr")
    assert answer == {"bytes": 8, "path": os.fsencode(tmp_path / "out")}
    assert (tmp_path / "out").read_bytes() == b"problem\n"
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o600
    answer = wire.call("save", job=job_id, path=os.fsencode(tmp_path / "out"), stream="stdout")
    assert answer["bytes"] == 3_000_000
    assert (tmp_path / "out").read_bytes() == read_all(wire, job_id).stdout
    (tmp_path / "link").symlink_to("out")
    wire.call("save", job=job_id, path=os.fsencode(tmp_path / "link"), stream="stderr")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "out").read_bytes() == b"problem\n"
    for path, words in ((tmp_path, "a directory"), (Path("/dev/null"), "not a regular file")):
        with pytest.raises(Refused, match=words):
            wire.call("save", job=job_id, path=os.fsencode(path), stream="stdout")
    with pytest.raises(Refused, match="No such file"):
        wire.call("save", job=job_id, path=os.fsencode(tmp_path / "no" / "such"), stream="stdout")
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "state") == [
        "link",
        "out",
    ]


def test_an_existing_file_keeps_its_mode_and_a_refused_save_leaves_nothing(
    wire: Wire, state_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from remit._agent.kept import lookup

    job_id = kept(wire, "echo new")
    read_all(wire, job_id)
    (tmp_path / "out").write_text("old")
    (tmp_path / "out").chmod(0o664)
    wire.call("save", job=job_id, path=os.fsencode(tmp_path / "out"), stream="stdout")
    assert (tmp_path / "out").read_text() == "new\n"
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o664
    before = sorted(tmp_path.iterdir())
    state, to = os.fsencode(state_dir), os.fsencode(tmp_path / "out")
    monkeypatch.setattr(lookup, "_COPY_TRIES", 0)
    with pytest.raises(refusal.Refused, match="freed faster"):
        lookup.save(state, job_id, to, None, "stdout")
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "out").read_text() == "new\n"


# -- listings


def test_jobs_are_found_by_id_name_and_prefix(wire: Wire) -> None:
    one = kept(wire, "exit 0", name="logs")
    other = kept(wire, "exit 0", name="logs")
    third = kept(wire, "exit 0", name=one)

    def found(name: str) -> list[str]:
        return sorted(each["id"] for each in wire.call("find", name=name)["jobs"])

    assert found("logs") == sorted([one, other])
    assert found(one) == [one]
    assert found(third[:6]) == [third]
    assert found(third[:3]) == []
    assert found("nothing") == []
    pages, after = [], None
    while True:
        page = wire.call("jobs", after=after, limit=2)
        pages.append([each["id"] for each in page["jobs"]])
        after = page["next"]
        if after is None:
            break
    assert pages == [sorted([one, other, third])[:2], sorted([one, other, third])[2:]]


def _truncated(directory: Path) -> None:
    text = (directory / "job.json").read_text()
    (directory / "job.json").write_text(text[: len(text) // 2])


def _huge(directory: Path) -> None:
    (directory / "job.json").write_text("[" * 20_000_000)


def _of_a_later_format(directory: Path) -> None:
    path = directory / "job.json"
    path.write_text(path.read_text().replace('"format": 1', '"format": 2'))


def _broken_outcome(directory: Path) -> None:
    (directory / "outcome.json").write_text("{")


def _writable(directory: Path) -> None:
    directory.chmod(0o777)


def _link(directory: Path) -> None:
    directory.rename(directory.parent.parent / "elsewhere")
    directory.symlink_to("../elsewhere")


def _of_other_types(directory: Path) -> None:
    for path in (directory / "job.json", directory / "outcome.json"):
        values = json.loads(path.read_text())
        path.write_text(json.dumps({key: 7 if key == "format" else [] for key in values}))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_truncated, "job.json: malformed or cut short"),
        (_huge, "job.json: larger than"),
        (_of_a_later_format, "format 2"),
        (_broken_outcome, "outcome.json"),
        (_writable, "written to by others"),
        (_link, "is a link"),
        (_of_other_types, "format 7"),
    ],
)
def test_one_bad_directory_is_shown_as_such_beside_the_others(
    wire: Wire, state_dir: Path, spoil: Callable[[Path], None], words: str
) -> None:
    good, bad = kept(wire, "echo x"), kept(wire, "echo x")
    spoil(state_dir / "jobs" / bad)
    (state_dir / "jobs" / "lost+found").mkdir()
    shown = {each["id"]: each for each in wire.call("jobs", after=None, limit=100)["jobs"]}
    assert set(shown) == {good, bad}
    assert shown[good]["state"] == "COMPLETED"
    # A later version may know how it stands.
    later = spoil in (_of_a_later_format, _of_other_types)
    assert shown[bad]["state"] == ("DISCONNECTED" if later else "LOST")
    assert re.search(words, shown[bad]["problem"])
    with pytest.raises(Refused, match=r"(job|outcome)\.json|cannot be used"):
        wire.accepted(read(wire, bad))
    if spoil is _of_a_later_format:
        with pytest.raises(Refused, match="left alone"):
            wire.call("remove", job=bad, force=True)
        assert (state_dir / "jobs" / bad / "stdout").exists()


def test_unknown_keys_are_ignored_and_kept(wire: Wire, state_dir: Path) -> None:
    job_id = kept(wire, "echo x")
    path = state_dir / "jobs" / job_id / "job.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "colour": "green"}))
    assert wire.call("find", name=job_id)["jobs"][0]["state"] == "COMPLETED"
    assert json.loads(path.read_text())["colour"] == "green"


@pytest.mark.parametrize(
    ("change", "state", "reason"),
    [
        ({"boot_id": "earlier"}, "LOST", "host-restarted"),
        ({"boot_id": "other", "hostname": "elsewhere"}, "DISCONNECTED", None),
        ({"boot_id": "other", "machine_id": "cloned"}, "DISCONNECTED", None),
        ({}, "LOST", "supervisor-lost"),
    ],
)
def test_without_an_outcome_the_place_of_the_process_decides(
    wire: Wire, state_dir: Path, change: dict[str, str], state: str, reason: str | None
) -> None:
    job_id = kept(wire, "echo x")
    wire.collect(wire.request("watch", job=job_id))  # until its supervisor has ended too
    directory = state_dir / "jobs" / job_id
    (directory / "outcome.json").unlink()
    path = directory / "process.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    (shown,) = wire.call("find", name=job_id)["jobs"]
    assert shown["state"] == state
    if reason is not None:
        assert shown["outcome"]["reason"] == reason
        assert read_all(wire, job_id).stdout == b"x\n"
    else:
        assert "cannot be asked from here" in shown["problem"]
        with pytest.raises(Refused, match="cannot be stopped from here") as refused:
            wire.call("stop", job=job_id, grace=1.0)
        assert refused.value.code == "state"


def test_thousands_of_ended_jobs_are_listed_in_pages(
    bring_up: Callable[..., Wire], state_dir: Path
) -> None:
    pattern = state_dir / "jobs" / kept(bring_up(), "echo x")
    files = [(pattern / name).read_bytes() for name in ("job.json", "outcome.json")]
    for _ in range(2_499):
        copy = pattern.parent / new_id()
        copy.mkdir(mode=0o700)
        for name, data in zip(("job.json", "outcome.json"), files, strict=True):
            (copy / name).write_bytes(data)
    wire = bring_up()  # the first has not been heard for as long as that took
    seen: list[str] = []
    after = None
    while True:
        page = wire.call("jobs", after=after, limit=1000)
        seen += [each["id"] for each in page["jobs"]]
        after = page["next"]
        if after is None:
            break
    assert len(seen) == 2_500
    assert seen == sorted(set(seen))


# -- the page


def test_the_page_shows_how_to_read_a_job_with_coreutils(
    wire: Wire, state_dir: Path, tmp_path: Path
) -> None:
    """Every command under "By hand" in docs/job-directory.md is run as it stands there."""
    page = (ROOT / "docs" / "job-directory.md").read_text()
    page = page.partition("\n## By hand\n")[2].partition("\n## ")[0]
    examples = re.findall(r"^\$ (.+)\n((?:(?!\$ |```).*\n)*)", page, re.MULTILINE)
    assert len(examples) >= 5
    job_id = kept(
        wire, "echo one; sleep .1; echo oops >&2; sleep .1; echo two; exit 3", name="logs"
    )
    directory = state_dir / "jobs" / job_id
    for command, expected in examples:
        ran = subprocess.run(
            ["/bin/sh", "-c", command], cwd=directory, capture_output=True, text=True, check=True
        )
        assert ran.stdout == expected, command


def test_the_page_names_every_file(wire: Wire, state_dir: Path) -> None:
    page = (ROOT / "docs" / "job-directory.md").read_text()
    job_id = kept(wire, "echo x")
    channel = read(wire, job_id, consume=True)
    wire.accepted(channel)
    wire.close_channel(channel)
    for path in (state_dir / "jobs" / job_id).iterdir():
        assert f"`{path.name}`" in page or f"`{path.name}/`" in page, path.name
        if path.suffix == ".json":
            for key in json.loads(path.read_text()):
                assert f"`{key}`" in page, (path.name, key)


def test_a_page_of_jobs_is_one_frame(wire: Wire) -> None:
    """Command lines are shown cut where they would not fit."""
    for _ in range(12):
        argv = ["/bin/true", "x" * 100_000]
        channel = wire.request("start", **job(*argv, spool=True))
        wire.accepted(channel)
        wire.collect(channel)
    page = wire.call("jobs", after=None, limit=1000)
    rest = wire.call("jobs", after=page["next"], limit=1000) if page["next"] else {"jobs": []}
    assert len(page["jobs"]) + len(rest["jobs"]) == 12
    assert all(sum(map(len, each["command"]["argv"])) <= 1 << 16 for each in page["jobs"])


def test_the_packed_page_is_what_the_codec_would_say() -> None:
    from remit._agent.kept import lookup

    assert unpack(lookup.jobs(b"/nowhere/at/all", None, 10)) == {"jobs": [], "next": None}
