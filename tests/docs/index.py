"""The index of names in docs/reference.md. ``python -m docs.index``, in tests/, writes it anew."""

import functools
import re

import remit
import remit.abc
import remit.testing
from docs.pages import REFERENCE, ROOT

PAGE = ROOT / "docs" / "reference.md"
_BEGIN = "| name | described in |\n|---|---|\n"
_PREFIX = r"remit[._ ](?:(?:abc|testing)\.)?"


def anchor(heading: str) -> str:
    """As GitHub makes it of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def index() -> str:
    """The table: a row for each public name, command and hook. Raises ValueError for a name that
    no page describes."""
    places = [*_names(), *_headings()]
    places.sort(key=lambda place: re.sub(_PREFIX, "", place[0]).lower())
    return "".join(f"| `{name}` | [{where}]({where}) |\n" for name, where in places)


def stands() -> str:
    """The table as the page has it."""
    return _text(PAGE.name).partition(_BEGIN)[2].partition("\n\n")[0] + "\n"


@functools.cache
def _text(page: str) -> str:
    return (ROOT / "docs" / page).read_text(encoding="utf-8")


def _names() -> list[tuple[str, str]]:
    found = [(f"remit.{name}", _described(name)) for name in remit.__all__]
    further = (name for name in remit.abc.__all__ if name not in remit.__all__)
    found += [(f"remit.abc.{name}", _described(name)) for name in further]
    return found + [(f"remit.testing.{name}", _described(name)) for name in remit.testing.__all__]


def _headings() -> list[tuple[str, str]]:
    commands = re.findall(r"^### (`(remit \w+).*`)$", _text("commands.md"), re.MULTILINE)
    hooks = re.findall(r"^### `(remit_\w+)\(", _text("plugin-reference.md"), re.MULTILINE)
    found = [(name, f"commands.md#{anchor(heading)}") for heading, name in commands]
    return found + [(name, "plugin-reference.md#hooks") for name in hooks]


def _described(name: str) -> str:
    """Where a row or a paragraph begins with the name, else where it is mentioned first."""
    spelled = rf"`(?:{_PREFIX})?{name}(?=[`(])"
    for pattern in (rf"(?:\| |\*\*|[|*].*`, ){spelled}", rf".*{spelled}"):
        # Python's before that of states: words of states are like names.
        for page in sorted(REFERENCE):
            heading = ""
            for line in _text(page).splitlines():
                if line.startswith("## "):
                    heading = line[3:]
                elif re.match(pattern, line):
                    return f"{page}#{anchor(heading)}" if heading else page
    raise ValueError(f"no page of the reference describes {name}")


if __name__ == "__main__":
    PAGE.write_text(_text(PAGE.name).replace(stands(), index()), encoding="utf-8")
