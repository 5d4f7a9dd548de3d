"""Pruning: what goes, what never goes, and what is told."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.harness import Refused, Wire, job, new_id
from remit._agent.kept import prune
from remit._agent.kept.prune import Found, chosen
from remit._jobdir import liveness

DAY = 86400.0


def found(name: str, ended: float, size: int = 10, state: str | None = "COMPLETED") -> Found:
    return Found(name, size, None if state is None else {"state": state}, ended)


class TestChoice:
    @pytest.mark.parametrize(
        ("older_than", "max_total", "gone"),
        [
            (50.0, None, "ab"),
            (0.0, None, "abcl"),
            (1000.0, None, ""),
            (None, 60, ""),
            (None, 59, "a"),
            (None, 41, "ab"),
            (None, 0, "abc"),
            (50.0, 40, "ab"),
            (50.0, 35, "abc"),
        ],
    )
    def test_the_old_go_and_then_the_oldest_until_there_is_room(
        self, older_than: float | None, max_total: int | None, gone: str
    ) -> None:
        everything = [
            found("c", 90.0),
            found("a", 10.0),
            found("l", 95.0, state="LOST"),
            found("running", 0.0, size=20, state=None),
            found("b", 50.0),
        ]
        due = chosen(everything, 100.0, older_than, max_total)
        assert "".join(each.id for each in due) == gone

    def test_what_is_lost_goes_for_its_age_only(self) -> None:
        lost = found("l", 10.0, state="LOST")
        assert chosen([lost], 100.0, None, 0) == []
        assert chosen([lost], 100.0, 90.0, None) == [lost]


def ended(wire: Wire, state_dir: Path, age: float, line: str = "echo x", **args: Any) -> Path:
    """The directory of a job that ended so many seconds ago, nothing of which runs."""
    channel = wire.request("start", **job(line=line, spool=True, **args))
    job_id: str = wire.accepted(channel)["id"]
    wire.collect(channel)
    wire.collect(wire.request("watch", job=job_id))
    directory = state_dir / "jobs" / job_id
    change(directory / "outcome.json", finished=time.time() - age)
    return directory


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def pruned(wire: Wire, **args: Any) -> list[str]:
    answer = wire.call("prune", **{"dry_run": False, "after": None, **args})
    assert answer["next"] is None
    return [job["id"] for job in answer["jobs"]]


def test_by_age_and_by_size_the_oldest_first(wire: Wire, state_dir: Path) -> None:
    flood = "head -c 1000000 /dev/zero"
    young = ended(wire, state_dir, 1 * DAY, line=flood)
    old = ended(wire, state_dir, 9 * DAY)
    middle = ended(wire, state_dir, 3 * DAY, line=flood)
    for dry_run in (True, False):
        assert pruned(wire, older_than=7 * DAY, dry_run=dry_run) == [old.name]
        assert old.exists() is dry_run
    for dry_run in (True, False):
        assert pruned(wire, max_total=1_500_000, dry_run=dry_run) == [middle.name]
        assert middle.exists() is dry_run
    assert young.exists()
    with pytest.raises(Refused, match="removed"):
        wire.accepted(wire.request("start", **job("true", spool=True, id=old.name)))


def test_the_answer_tells_what_each_took_and_which_it_was(wire: Wire, state_dir: Path) -> None:
    directory = ended(wire, state_dir, DAY, line="head -c 100000 /dev/zero; exit 3", name="zeros")
    finished = json.loads((directory / "outcome.json").read_text())["finished"]
    du = sum(path.lstat().st_blocks * 512 for path in [directory, *directory.rglob("*")])
    (told,) = wire.call("prune", older_than=0.0)["jobs"]
    assert told == {
        "id": directory.name,
        "name": "zeros",
        "state": "FAILED",
        "finished": finished,
        "size": du,
    }


class TestWhatStays:
    def everything(self, wire: Wire) -> list[str]:
        return pruned(wire, older_than=0.0, max_total=0)

    def test_a_running_job(self, wire: Wire) -> None:
        channel = wire.request("start", **job("sleep", "1000", spool=True))
        job_id = wire.accepted(channel)["id"]
        assert self.everything(wire) == []
        wire.call("stop", job=job_id, grace=1.0)

    def test_one_whose_left_over_processes_run(self, wire: Wire) -> None:
        line = "setsid sleep 1000 >/dev/null 2>&1 & exit 0"
        channel = wire.request("start", **job(line=line, spool=True))
        job_id = wire.accepted(channel)["id"]
        wire.collect(channel)
        assert self.everything(wire) == []
        wire.call("stop", job=job_id, grace=1.0)

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("job.json", "{"),
            ("job.json", '{"format": 2}'),
            ("outcome.json", "{"),
        ],
    )
    def test_what_cannot_be_read(self, wire: Wire, state_dir: Path, name: str, text: str) -> None:
        directory = ended(wire, state_dir, DAY)
        (directory / name).write_text(text)
        assert self.everything(wire) == []
        assert directory.exists()

    def test_what_is_no_directory_of_a_job(self, wire: Wire, state_dir: Path) -> None:
        jobs = ended(wire, state_dir, DAY).parent
        (jobs / "notes").mkdir()
        (jobs / "notes" / "mine").write_text("kept")
        (jobs / new_id()).symlink_to(jobs / "notes")
        (jobs / new_id()).write_text("")
        assert len(self.everything(wire)) == 1
        assert len(list(jobs.iterdir())) == 3
        assert (jobs / "notes" / "mine").read_text() == "kept"

    def test_what_may_run_on_another_computer(self, wire: Wire, state_dir: Path) -> None:
        directory = ended(wire, state_dir, DAY)
        (directory / "outcome.json").unlink()
        change(directory / "process.json", boot_id="other", hostname="elsewhere")
        assert self.everything(wire) == []
        assert directory.exists()

    def test_a_start_on_its_way(self, wire: Wire, state_dir: Path) -> None:
        directory = ended(wire, state_dir, DAY).with_name(new_id())
        directory.mkdir(mode=0o700)
        claim = os.open(directory, os.O_RDONLY)
        fcntl.flock(claim, fcntl.LOCK_EX)
        assert directory.name not in self.everything(wire)
        os.close(claim)
        assert directory.exists()

    def test_results_of_an_open_session(
        self, bring_up: Callable[..., Wire], state_dir: Path
    ) -> None:
        owner = bring_up()
        directory = ended(owner, state_dir, DAY, lifetime="session")
        assert self.everything(bring_up()) == []
        assert directory.exists()


def test_a_lost_job_goes_once_nothing_changed_there_for_so_long(
    wire: Wire, state_dir: Path
) -> None:
    directory = ended(wire, state_dir, DAY)
    (directory / "outcome.json").unlink()
    (view,) = wire.call("find", name=directory.name)["jobs"]
    assert view["state"] == "LOST"
    assert pruned(wire, max_total=0) == []
    assert pruned(wire, older_than=DAY) == []
    os.utime(directory, (0.0, time.time() - 2 * DAY))
    assert pruned(wire, older_than=DAY) == [directory.name]


def test_old_seals_expire(wire: Wire, state_dir: Path) -> None:
    ended(wire, state_dir, DAY)
    gone = state_dir / "gone"
    for name, age in ((old := new_id(), 8 * DAY), (young := new_id(), 6 * DAY)):
        (gone / name).touch()
        os.utime(gone / name, (0.0, time.time() - age))
    assert pruned(wire, older_than=DAY * 365, dry_run=True) == []
    assert (gone / old).exists()
    assert pruned(wire, older_than=DAY * 365) == []
    assert not (gone / old).exists()
    assert (gone / young).exists()


def test_many_are_told_in_pages(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch, wire: Wire
) -> None:
    names = {ended(wire, state_dir, DAY).name for _ in range(5)}
    monkeypatch.setattr(prune, "_MOST", 2)
    for dry_run in (True, False):
        seen: list[str] = []
        after = None
        while True:
            page = prune.prune(os.fsencode(state_dir), 0.0, None, dry_run, after)
            seen += [job["id"] for job in page["jobs"]]
            after = page["next"]
            if after is None:
                break
        assert len(seen) == 5
        assert set(seen) == names
    assert os.listdir(state_dir / "jobs") == []


def test_nothing_is_pruned_unasked(wire: Wire) -> None:
    with pytest.raises(Refused, match="neither older_than nor max_total") as refused:
        wire.call("prune")
    assert refused.value.code == "bad-request"


def test_without_locks_only_an_outcome_counts(
    wire: Wire, state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    over, lost = ended(wire, state_dir, DAY), ended(wire, state_dir, DAY)
    (lost / "outcome.json").unlink()
    for directory in (over, lost):  # elsewhere its process would be seen to be gone
        change(directory / "process.json", pid_namespace="pid:[1]")

    def no_locks(dir_fd: int) -> bool:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(liveness, "held", no_locks)
    page = prune.prune(os.fsencode(state_dir), 0.0, None, False, None)
    assert [job["id"] for job in page["jobs"]] == [over.name]
    assert lost.exists()
