"""The help of ``remit`` as a whole. Plain text: nobody who asks for it waits for a parser."""

from __future__ import annotations

from collections.abc import Mapping

from remit import __version__
from remit.cli._commands import COMMANDS
from remit.cli._report import write_all

EXITS = "0; 1 it did not work; 2 wrong usage; 255 the link failed."

_HEAD = """\
Usage: remit [OPTION…] COMMAND …

  Background jobs on other computers.

Commands:
"""
_TAIL = """
Options:
  -v, --verbose  Say on stderr what remit does; -vv says more. Any command takes it.
  --version      Show the version.
  -h, --help     Show this, or after a command what that takes.

Examples:
  remit run server01 -- uname -a
  remit start --keep --name build server01 -- make -j8
  remit receive build

Exit status: """


def overview(brought: Mapping[str, str]) -> str:
    """``brought``: the commands of plugins, and what each does in a line."""
    lines = {name: line for name, (_, line) in COMMANDS.items()} | dict(brought)
    width = max(map(len, lines))
    listed = "".join(f"  {name:<{width}}  {line}".rstrip() + "\n" for name, line in lines.items())
    return f"{_HEAD}{listed}{_TAIL}{EXITS}\n"


def version() -> str:
    return f"remit {__version__}\n"


def show(text: str) -> None:
    """Prints help. Raises BrokenPipeError once nobody reads."""
    write_all(1, text.encode("utf-8", "backslashreplace"))
