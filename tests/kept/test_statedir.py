"""Which state directory it is, and which are refused."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from remit.agent import statedir
from remit.agent.helpers import Refused
from testbed import needs


def _opened(path: Path) -> None:
    os.close(statedir.State(os.fsencode(path)).open_jobs(create=True))


def test_the_nearest_word_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REMIT_STATE_DIR", "/a")
    monkeypatch.setenv("XDG_STATE_HOME", "/b")
    assert statedir.choose(b"/asked") == b"/asked"
    assert statedir.choose(None) == b"/a"
    monkeypatch.delenv("REMIT_STATE_DIR")
    assert statedir.choose(None) == b"/b/remit"
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    in_home = os.path.join(statedir.home(), b".local/state/remit")
    assert statedir.choose(None) == in_home
    # The password database counts, not what somebody put into $HOME.
    monkeypatch.setenv("HOME", "/nowhere")
    assert statedir.choose(None) == in_home
    assert statedir.choose(b"~/jobs") == os.path.join(statedir.home(), b"jobs")
    with pytest.raises(Refused, match="no absolute path"):
        statedir.choose(b"relative")


def test_it_is_made_when_needed_and_private(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "state"
    state = statedir.State(os.fsencode(path))
    assert state.problem() is None
    assert not path.exists()
    with pytest.raises(FileNotFoundError):
        state.open_jobs()
    umask = os.umask(0)
    try:
        _opened(path)
    finally:
        os.umask(umask)
    assert [each.stat().st_mode & 0o777 for each in (path, path / "jobs")] == [0o700, 0o700]
    assert state.problem() is None


def _writable_by_others(path: Path) -> None:
    path.chmod(0o777)


def _writable_by_the_group(path: Path) -> None:
    path.chmod(0o770)


def _of_somebody_else(path: Path) -> None:
    needs.root("giving a directory away")
    os.chown(path, 4242, 4242)


def _a_link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def _a_file(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.touch()


@pytest.mark.parametrize("which", ["state", "jobs"])
@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_writable_by_others, "written to by others"),
        (_writable_by_the_group, "written to by others"),
        (_of_somebody_else, "belongs to user 4242"),
        (_a_link, "is a link"),
        (_a_file, "no directory"),
    ],
)
def test_a_directory_that_somebody_could_have_prepared_is_refused(
    state_dir: Path, which: str, spoil: Callable[[Path], None], words: str
) -> None:
    _opened(state_dir)
    spoil(state_dir if which == "state" else state_dir / "jobs")
    with pytest.raises(Refused, match=words) as refused:
        _opened(state_dir)
    assert refused.value.code == "no-state"
    assert "?state=" in str(refused.value.hint)


def test_what_cannot_be_made_is_said_before_it_is_tried(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "state"
    problem = statedir.State(os.fsencode(path)).problem()
    assert problem is not None
    assert str(path) in problem
