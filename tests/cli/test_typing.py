"""The demo's typist: types when the shell waits for it, and not before, however slow that is."""

from __future__ import annotations

import os
import shlex

import pytest

from cli.program import LIMIT
from remit.cli import _typing
from remit.cli._typing import DemoFailed, Typist

# Says whether something is typed while it is busy, for a second.
_BUSY = 'if read -t 1 early; then echo "EARLY $early"; fi'
_READ = 'IFS= read -r line; echo "got $line"'


def _typist(script: str, *, mark: str = "[here] ") -> Typist:
    argv = ["/bin/bash", "--noprofile", "--norc", "-c", script]
    return Typist(argv, dict(os.environ), mark=mark, limit=LIMIT)


def test_a_line_is_typed_when_the_marked_prompt_is_there() -> None:
    prompt = "printf '[here] ~$ '"
    script = f"printf 'Welcome to '; {_BUSY}; echo; {prompt}; {_READ}; printf half; {_BUSY}; echo"
    with _typist(f"{script}; {prompt}; {_READ}; exit 3") as typist:
        typist.type("one", shows="^got one$")
        typist.type("two")
        assert typist.leave() == 3


def test_what_came_early_is_seen(capfd: pytest.CaptureFixture[str]) -> None:
    # The other way round: a prompt before the shell is ready shows that the tests above can fail.
    script = f"printf '[here] $ '; {_BUSY}; printf '\\n[here] $ '; {_READ}"
    with _typist(script) as typist:
        typist.type("one", shows="^EARLY one$")
        typist.type("two")
        assert typist.leave() == 0
    assert "got two" in capfd.readouterr().out


def test_a_shell_that_shows_no_mark_is_typed_to_when_it_is_quiet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_typing, "UNMARKED_QUIET", 0.2)
    with _typist(f"printf '> '; {_READ}; printf '> '; {_READ}; exit 4") as typist:
        typist.type("one", shows="^got one$")
        typist.type("two")
        assert typist.leave() == 4


def test_a_line_that_does_not_show_what_it_should() -> None:
    script = f"printf '[here] $ '; {_READ}; printf '[here] $ '; {_READ}"
    with _typist(script) as typist, pytest.raises(DemoFailed, match="`one` did not show"):
        typist.type("one", shows="^got two$")


def test_a_shell_that_ends_is_not_waited_for() -> None:
    with _typist("echo no shell here") as typist, pytest.raises(DemoFailed, match="has ended"):
        typist.type("one")


def test_what_is_shown_is_harmless_and_told_in_whole_lines(
    capfd: pytest.CaptureFixture[str],
) -> None:
    text = shlex.quote(r"\033]0;title\007 here\r\nrest")
    with _typist(f"printf {text}") as typist:
        assert typist.leave() == 0
    assert capfd.readouterr().out == "\\x1b]0;title\\x07 here\nrest\n"
