"""What the command line decides without asking anybody: endings, words, tables, notes."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import attrs
import pytest

from remit import JobInfo, JobNotFound, JobState, Outcome, TargetError
from remit.cli import _endings, _known, _render, _work
from remit.cli._known import Note
from remit.cli._report import UsageError
from remit.cli._where import Place, choose

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
JOB = JobInfo(
    id="jaaaaaaaaaaaa",
    name="logs",
    state=JobState.COMPLETED,
    location="build7",
    command=("make", "-j8", "two words"),
    placement="keep",
    lifetime="detached",
    has_more_data=True,
    created=NOON,
    outcome=Outcome(exit_status=0, reason="exited"),
)


@pytest.mark.parametrize(
    ("state", "outcome", "status"),
    [
        (JobState.COMPLETED, Outcome(exit_status=0, reason="exited"), 0),
        (JobState.FAILED, Outcome(exit_status=3, reason="exited"), 3),
        (JobState.FAILED, Outcome(exit_status=255, reason="exited"), 255),
        (JobState.FAILED, Outcome(signal="SIGKILL", reason="signalled"), 137),
        (JobState.FAILED, Outcome(signal="SIG34", reason="signalled"), 162),
        (JobState.FAILED, Outcome(signal="SIGNEW", reason="signalled"), 255),
        (JobState.FAILED, Outcome(reason="start-failed", error="no such program"), 127),
        (JobState.FAILED, Outcome(signal="SIGTERM", reason="timeout"), 124),
        (JobState.FAILED, Outcome(exit_status=0, reason="timeout"), 124),
        (JobState.STOPPED, Outcome(exit_status=0, reason="stopped"), 1),
        (JobState.STOPPED, Outcome(signal="SIGTERM", reason="stopped"), 143),
        (JobState.LOST, Outcome(reason="link-lost"), 255),
        (JobState.DISCONNECTED, None, 255),
        (JobState.FAILED, Outcome(reason="of a later version"), 1),
    ],
)
def test_an_end_becomes_an_exit_status(
    state: JobState, outcome: Outcome | None, status: int
) -> None:
    assert _endings.exit_status(state, outcome) == status


def test_an_end_in_words() -> None:
    assert _endings.words(Outcome(exit_status=0, reason="exited")) == ""
    assert _endings.words(Outcome(exit_status=3, reason="exited")) == "exit status 3"
    told = Outcome(signal="SIGTERM", reason="timeout", note="output held open by pid 4")
    assert _endings.words(told) == "timeout, SIGTERM, output held open by pid 4"


PLACES = [
    Place("ssh:a", "jaaaabbbbcccc", "logs"),
    Place("ssh:b", "jaaaaddddeeee", "logs"),
    Place("local:", "jzzzzzzzzzzzz", "jaaa"),
]


@pytest.mark.parametrize(
    ("word", "target"),
    [
        ("jaaaabbbbcccc", "ssh:a"),
        ("jaaaad", "ssh:b"),
        ("jzzz", "local:"),
        ("jaaa", "local:"),  # a name before the beginning of an id
    ],
)
def test_a_job_is_found(word: str, target: str) -> None:
    assert choose(word, PLACES).target == target


@pytest.mark.parametrize("word", ["logs", "jaaaa"])
def test_a_word_that_fits_several_jobs_lists_them(word: str) -> None:
    with pytest.raises(JobNotFound, match="matches 2 jobs") as caught:
        choose(word, PLACES)
    assert caught.value.evidence == "jaaaabbbbcccc  ssh:a\njaaaaddddeeee  ssh:b"


@pytest.mark.parametrize("word", ["jzz", "nobody", "JZZZZ", ""])
def test_a_word_that_fits_no_job(word: str) -> None:
    with pytest.raises(JobNotFound, match="is known here"):
        choose(word, PLACES)


def test_a_table_is_as_wide_as_its_cells() -> None:
    other = attrs.evolve(JOB, id="jbbbbbbbbbbbb", name=None, state=JobState.RUNNING, command="a|b")
    assert _render.JobTable(None).part([JOB, other]).splitlines() == [
        "ID             NAME  STATE      HASMOREDATA  LOCATION  COMMAND",
        "jaaaaaaaaaaaa  logs  Completed  True         build7    make -j8 'two words'",
        "jbbbbbbbbbbbb        Running    True         build7    a|b",
    ]


def test_a_table_is_cut_to_the_terminal_in_columns_not_in_characters() -> None:
    wide = attrs.evolve(JOB, name="日本", command=("x" * 100,))
    head, line = _render.JobTable(60).part([wide]).splitlines()
    assert head.index("STATE") + 2 == line.index("Completed") + 4  # two of four columns each
    assert line.endswith("x…")
    assert len(line) + 2 == 60


def test_names_and_commands_do_nothing_to_a_terminal() -> None:
    hostile = attrs.evolve(JOB, name="a\x1b[2Jb", command="x\ny\x9b\u202e", location="h\r")
    line = _render.JobTable(None).part([hostile]).splitlines()[1]
    assert r"a\x1b[2Jb" in line
    assert r"x\ny\x9b\u202e" in line
    assert r"h\r" in line


def test_json_has_the_fields_of_a_job() -> None:
    listing = _render.JobArray()
    (job,) = json.loads(listing.part([JOB]) + listing.end())
    assert set(job) == {field.name for field in attrs.fields(JobInfo)}
    assert job["state"] == "COMPLETED"
    assert job["command"] == ["make", "-j8", "two words"]
    assert job["created"] == "2026-01-02T12:00:00+00:00"
    assert job["finished"] is None
    assert job["outcome"]["exit_status"] == 0


def test_json_of_no_job_is_an_empty_array() -> None:
    assert json.loads(_render.JobArray().end()) == []


@pytest.mark.parametrize(
    ("command", "options", "words"),
    [
        (None, {}, "no command"),
        ([], {}, "no command"),
        (["a", "b"], {"shell": True}, "--shell takes one word"),
        (["a"], {"cwd": ""}, "can never be right"),
        ([""], {}, "can never be right"),
        (["a"], {"env": ["=1"]}, "names no variable"),
        (["a"], {"env": ["NO_SUCH_VARIABLE_HERE"]}, "no such variable"),
    ],
)
def test_words_that_can_never_be_right(
    command: list[str] | None, options: dict[str, object], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        _work.parse(command, **{"shell": False, **options})  # type: ignore[arg-type]


def test_a_variable_is_given_or_taken_from_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAKEN", "from here")
    work = _work.parse(["a"], shell=False, env=["A=1=2", "EMPTY=", "TAKEN"])
    assert work.env == {"A": "1=2", "EMPTY": "", "TAKEN": "from here"}
    # Values are secrets, sometimes: a traceback must not show them.
    assert "from here" not in repr(work)


# -- notes


@pytest.fixture
def own_state(state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("REMIT_STATE_DIR", str(state_dir))
    return state_dir


def _note(job_id: str = "jaaaaaaaaaaaa") -> Note:
    return Note(id=job_id, target="ssh:a", name="n", command=("a", "\udcff"), created=NOON)


def test_a_note_is_read_again_until_it_is_dropped(own_state: Path) -> None:
    _known.write(_note("jbbbbbbbbbbbb"))
    _known.write(_note())
    assert [note.id for note in _known.read()] == ["jaaaaaaaaaaaa", "jbbbbbbbbbbbb"]
    assert _known.read()[0].target == "ssh:a"
    _known.drop("jaaaaaaaaaaaa", "ssh:a")
    _known.drop("jaaaaaaaaaaaa", "ssh:a")
    assert [note.id for note in _known.read()] == ["jbbbbbbbbbbbb"]
    assert {p.stat().st_mode & 0o777 for p in (own_state / "known").iterdir()} == {0o600}


def test_what_is_no_note_is_passed_over(own_state: Path) -> None:
    _known.write(_note())
    known = own_state / "known"
    good = (known / "jaaaaaaaaaaaa.json").read_bytes()
    (known / "jcccccccccccc.json").write_bytes(good)  # tells another id than its name
    (known / "jdddddddddddd.json").write_bytes(b"{")
    (known / "jeeeeeeeeeeee.json").symlink_to(known / "jaaaaaaaaaaaa.json")
    (known / "readme.json").write_bytes(good)
    assert [note.id for note in _known.read()] == ["jaaaaaaaaaaaa"]


def test_notes_that_others_could_have_written_are_refused(own_state: Path) -> None:
    # A note names the program that is run to reach a job.
    _known.write(_note())
    (own_state / "known").chmod(0o777)
    with pytest.raises(TargetError, match="others"):
        _known.read()
