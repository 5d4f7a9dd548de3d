"""Which state directory it is, and which are refused."""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Callable
from pathlib import Path

import pytest

from remit._agent.enter import control_socket
from remit._jobdir import statedir
from remit._wire.refusal import Refused
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
    with pytest.raises(Refused, match="not an absolute path"):
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
        (_a_file, "not a directory"),
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


def _only_ours(path: Path) -> None:
    """As `_a_link`, in the way and not at its end."""
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))


def _sticky(path: Path) -> None:
    path.chmod(0o1777)


def _link_of_somebody_else(path: Path) -> None:
    needs.root("giving a link away")
    _only_ours(path)
    os.chown(path, 4242, 4242, follow_symlinks=False)


def _writable_behind_a_link(path: Path) -> None:
    _only_ours(path)
    path.with_name("elsewhere").chmod(0o777)


@pytest.mark.parametrize("exists", [False, True], ids=["to be made", "there"])
@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_writable_by_others, "can be written to by others"),
        (_writable_by_the_group, "can be written to by group 0"),
        (_of_somebody_else, "belongs to user 4242"),
        (_link_of_somebody_else, "belongs to user 4242"),
        (_writable_behind_a_link, "can be written to by others"),
        (_only_ours, None),
        (_sticky, None),
    ],
)
def test_nobody_else_can_put_another_one_in_its_place(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    exists: bool,
    depth: int,
    change: Callable[[Path], None],
    words: str | None,
) -> None:
    state = tmp_path / "a" / "b" / "c" / "state"
    state.parent.mkdir(parents=True)
    # Root's group may well have root alone in it.
    monkeypatch.setattr(statedir, "_is_private", lambda gid: False)
    if exists:
        _opened(state)
    parent = state.parents[depth - 1]
    change(parent)
    problem = statedir.State(os.fsencode(state)).problem()
    if words is None:
        assert problem is None
        _opened(state)
        return
    assert problem is not None
    for told in (words, str(state)):
        assert told in problem
    with pytest.raises(Refused, match=words) as refused:
        _opened(state)
    assert "chmod go-w" in str(refused.value.hint)
    assert state.exists() == exists


def test_a_group_of_ones_own_may_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parent = tmp_path / "parent"
    parent.mkdir()
    os.chown(parent, -1, os.getgid())
    parent.chmod(0o775)
    members: list[str] = []
    name = pwd.getpwuid(os.geteuid()).pw_name
    group = grp.struct_group((name, "x", os.getgid(), members))
    monkeypatch.setattr(grp, "getgrgid", lambda gid: group)
    _opened(parent / "state")
    members.append("somebody")
    with pytest.raises(Refused, match="written to by group"):
        _opened(parent / "state")


def test_a_control_directory_is_not_put_where_somebody_else_could_put_another(
    tmp_path: Path,
) -> None:
    parent = tmp_path / "open" / "runtime"
    parent.mkdir(parents=True)
    parent.chmod(0o700)
    parent.parent.chmod(0o777)
    told: list[bytes] = []
    with pytest.raises(Refused, match="can be written to by others"):
        control_socket.open_in_first([lambda: os.fsencode(parent)], "here", told.append)
    assert told == []
    assert list(parent.iterdir()) == []


def test_what_cannot_be_made_is_said_before_it_is_tried(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "state"
    problem = statedir.State(os.fsencode(path)).problem()
    assert problem is not None
    assert str(path) in problem
