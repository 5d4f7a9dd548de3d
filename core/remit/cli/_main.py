"""``remit``, from its words to its exit status."""

from __future__ import annotations

import os
import sys
import warnings
from typing import TextIO

from remit.cli._report import say, told


def run_words() -> None:
    """Runs the words of ``sys.argv`` and exits."""
    _open_standard_files()
    warnings.showwarning = _show_warning
    words = sys.argv[1:]
    with told():
        if instruction := os.environ.get("_REMIT_COMPLETE"):
            _complete(instruction)
        elif not words or words in (["-h"], ["--help"]):
            _show_overview()
        elif words == ["--version"]:
            from remit.cli import _help

            _help.show(_help.version())
        else:
            from remit.cli._brought import brought
            from remit.cli._group import Remit

            Remit(brought).run(words)
    raise SystemExit(0)


def _complete(instruction: str) -> None:
    from remit.cli import _completing
    from remit.cli._brought import brought
    from remit.cli._group import Remit

    raise SystemExit(_completing.answer(Remit(brought), instruction))


def _show_overview() -> None:
    from remit.cli import _help
    from remit.cli._brought import brought

    lines = {name: command.get_short_help_str(80) for name, command in brought().items()}
    _help.show(_help.overview(lines))


def _open_standard_files() -> None:
    """Where one was closed (`<&-`), the next file to be opened would take its place."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(fd, True)
    os.close(fd)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    # A person who types commands has no use for the place in our source.
    if category.__name__ == "PluginWarning":
        say(f"remit: {message}")
    else:
        say(f"remit: {category.__name__}: {message}")
