"""What goes wrong with the words that stand before an interpreter (``?via=``). No I/O."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

import attrs

from remit.abc import End, Target

# What a shell, or a tool that starts programs, exits with where there is no such program.
NO_PROGRAM = (126, 127)
_NO_PYTHON = re.compile(
    rb"python[\d.]*['\"]?: (?:command not found|not found|No such file|Permission denied)"
    # One that another account cannot read the library of.
    rb"|^Fatal Python error|^Could not find platform",
    re.MULTILINE,
)
_MISSING = "not found|no such file|unknown command|cannot execute|permission denied"
_QUESTION = re.compile(
    r"(?:pass(?:word|phrase|code)|verification code|one-time|\botp\b|\bpin\b|token)[^\n]*[:?]\s*\Z",
    re.IGNORECASE,
)
# As sudo says that nobody was there to be asked, in all its versions.
_NEEDS_PASSWORD = re.compile(
    r"^sudo: (?:a password is required|a terminal is required|no tty present|no askpass"
    r"|sorry, you must have a tty|interactive authentication is required)|^sudo: .*no password was",
    re.MULTILINE,
)
_REFUSED = re.compile(
    r"^sudo: (?:unknown user|unknown uid|.*policy|.*plugin)|is not in the sudoers file"
    r"|^Sorry, user .* is not allowed|is not allowed to (?:run sudo|execute)|^sudo: .*expired",
    re.MULTILINE,
)


@attrs.frozen
class Cause:
    """Why no interpreter came to run. ``lasting``: until a person has done something."""

    message: str
    hint: str
    lasting: bool = False


def lacks_python(via: Sequence[str], end: End) -> bool:
    """Whether they were run, and found no interpreter: another may be there."""
    return bool(via and end.exit_status and _NO_PYTHON.search(end.stderr))


def question(target: Target, heard: Sequence[bytes]) -> Cause | None:
    """Something there asks for a password, and nobody can answer: what was ``heard`` of it, each
    stream to its end."""
    for data in heard:
        found = _QUESTION.search(data[-200:].decode("utf-8", "replace"))
        if found is not None:
            return Cause(
                f"a program on {target} asks for a password, and nobody is there to answer",
                "what asks for none: `sudo -n` with a NOPASSWD rule, a key, or another account",
                lasting=True,
            )
    return None


def cause(target: Target, via: Sequence[str], end: End, noise: bytes) -> Cause | None:
    """What is known of such an end, after ``noise`` on stdout. None: nothing, or none of theirs."""
    said = end.stderr.decode("utf-8", "replace")
    words, program = shlex.join(via), via[0]
    if _NEEDS_PASSWORD.search(said):
        return Cause(
            f"sudo on {target} needs a password",
            "a rule with NOPASSWD in the sudoers there; or log in as that account"
            " (`remit login`, where that asks for a password)",
            lasting=True,
        )
    if _REFUSED.search(said):
        return Cause(
            f"sudo on {target} does not allow it",
            "`sudo -l`, there, lists what this account may do",
            lasting=True,
        )
    if end.exit_status in NO_PROGRAM:
        named = rf"{re.escape(program)}\b.*(?:{_MISSING})|unknown command:? '?{re.escape(program)}"
        # Some tools say it on stdout.
        heard = said + noise[-8192:].decode("utf-8", "replace")
        if re.search(named, heard, re.IGNORECASE):
            return Cause(
                f"there is no program {program!r} to be run on {target} (exit status"
                f" {end.exit_status})",
                f"via={words} is run there, before Python",
            )
        return None
    if end.exit_status is None:
        return None
    did = "did not run what follows it" if not end.exit_status else "ran no Python"
    return Cause(
        f"no agent came up on {target}; `{words}` {did}, and ended with status {end.exit_status}",
        f"`{words} python3 -V`, there, is to print a version",
    )
