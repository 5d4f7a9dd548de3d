"""What the assertions of a module call that pytest has rewritten. pytest itself need not be here.

An explanation is text of several lines; `{` after a line end begins what it is made of, `}` ends
that, `~` and `>` go on. What stands in it of values has no line ends, and each % in it is doubled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any, Iterable, Sequence

_MOST = 240  # characters of a value


def _saferepr(value: object) -> str:
    try:
        text = repr(value)
    except BaseException as exc:
        text = "<%s whose repr() raises %s>" % (type(value).__name__, type(exc).__name__)
    if len(text) > _MOST:
        text = text[: _MOST // 2] + "..." + text[-_MOST // 2 :]
    return text.replace("\n", "\\n")


def _format_assertmsg(message: object) -> str:
    text = message if isinstance(message, str) else _saferepr(message)
    return text.replace("\n", "\n~").replace("%", "%%")


def _should_repr_global_name(value: object) -> bool:
    return not callable(value)


def _format_boolop(explanations: Iterable[str], is_or: bool) -> str:
    return "(%s)" % (" or " if is_or else " and ").join(explanations).replace("%", "%%")


def _call_reprcompare(
    operators: Sequence[str],
    results: Sequence[Any],
    explanations: Sequence[str],
    values: Sequence[object],
) -> str:
    """That of the first comparison which is not true."""
    for result, explanation in zip(results, explanations):
        try:
            if not result:
                return explanation
        except Exception:  # an array
            return explanation
    return explanations[-1] if explanations else ""


def _check_if_assertion_pass_impl() -> bool:
    return False


def _format_explanation(explanation: str) -> str:
    shown: list[str] = []
    open_lines = [0]  # the places in `shown` of those that are explained
    for line in explanation.split("\n"):
        mark, rest = line[:1], line[1:]
        if not shown:
            shown.append(line)
        elif mark == "{":
            shown.append("%swhere %s" % ("  " * len(open_lines), rest))
            open_lines.append(len(shown) - 1)
        elif mark == "}":
            open_lines.pop()
            shown[open_lines[-1]] += rest
        elif mark in ("~", ">"):
            shown.append("  " * len(open_lines) + rest)
        else:
            shown[-1] += "\\n" + line
    return "\n".join(shown)
