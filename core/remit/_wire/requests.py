"""The requests of a link: each verb and its fields, said once.

From `REQUESTS` come what the agent makes of a request (`parse`), what a caller may send (`build`),
and the table of docs/wire.md; `EVENTS` are those that a caller sends on a channel later. No I/O;
standard library only, Python 3.6: both ends hold this file.
"""

from __future__ import annotations

from collections import namedtuple
from typing import TYPE_CHECKING

from remit._wire.names import NAME_WORDS, is_job_id, is_name
from remit._wire.refusal import Refused
from remit._wire.streams import MAX_SIZE, NAMES, STDERR, STDOUT

if TYPE_CHECKING:
    from typing import Any, Callable, Mapping

    Fields = dict[str, Any]

# ``words`` name it in docs/wire.md. ``check`` is given the field's name and a value that is of one
# of the ``types``; it returns the value to be used, or raises Refused. None: any value will do.
Kind = namedtuple("Kind", "words types check")
# ``default`` stands for a value that is missing or nil; `dict` for a new empty one.
Field = namedtuple("Field", "name kind default")

# The default of a field that must be there.
REQUIRED = object()

# Seconds between TERM and KILL of a job that is stopped.
STOP_GRACE = 5.0
MOST_SECONDS = 1e10
# More jobs than a frame can hold: of a page the agent sends as many as fit.
MAX_PAGE = 10000
MOST_OUTPUT = 1 << 62  # bytes of a `max_output`
MOST_CELLS = 1 << 16  # of a terminal, in each direction
LIFETIMES = ("session", "detached", "lease")
LEFTOVERS = ("leave", "stop")
ON_MAX = ("stop", "truncate")


def refused(words: str) -> Refused:
    return Refused("bad-request", words)


def take(field: Field, args: Mapping[str, Any]) -> Any:
    """What stands in ``args`` for the field. Raises Refused."""
    value = args.get(field.name)
    if value is None and field.default is not REQUIRED:
        return {} if field.default is dict else field.default
    types = field.kind.types
    # True is an int to isinstance, but no number to a caller.
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        raise refused("the argument %s is missing or malformed" % field.name)
    return value if field.kind.check is None else field.kind.check(field.name, value)


def take_all(fields: tuple[Field, ...], args: Mapping[str, Any]) -> Fields:
    """All of them, by name; what else there is is of a later version. Raises Refused, which names
    the one that is wrong as ``argument``."""
    taken = {}
    for field in fields:
        try:
            taken[field.name] = take(field, args)
        except Refused as exc:
            exc.facts.setdefault("argument", field.name)
            raise
    return taken


# -- what values have to be


def _job_id(name: str, value: str) -> str:
    if not is_job_id(value):
        raise refused("the argument %s is not a job id" % name)
    return value


def _job_name(name: str, value: str) -> str:
    if not is_name(value):
        raise refused(NAME_WORDS % (value,))
    return value


def _seconds(name: str, value: float) -> float:
    if not 0 <= value < MOST_SECONDS:
        raise refused("the argument %s is not a span of time" % name)
    return float(value)


def _path(name: str, value: bytes) -> bytes:
    if not value or b"\0" in value:
        raise refused("the argument %s is not a path" % name)
    return value


def _page(name: str, value: int) -> int:
    return min(max(1, value), MAX_PAGE)


def _at_least_one(name: str, value: int) -> int:
    return max(1, value)


def _bytes_to_come(name: str, value: int) -> int:
    if value < 0:
        raise refused("a function of a size below 0")
    return value


def _cells(name: str, value: int) -> int:
    if not 0 <= value < MOST_CELLS:
        raise refused("a terminal cannot have %d %s" % (value, name))
    return value


def _command(name: str, value: Fields) -> Fields:
    if isinstance(value.get("function"), str):
        return {"function": value["function"]}
    argv, line = value.get("argv"), value.get("line")
    if line is None and isinstance(argv, list) and argv:
        words = argv
    elif argv is None:
        words = [line]
    else:
        words = []
    if not words or not all(isinstance(word, bytes) and b"\0" not in word for word in words):
        raise refused("a command is an argv or a line, of bytes without a NUL")
    if line is None:
        return {"argv": argv}
    return {"line": line, "login": True} if value.get("login") is True else {"line": line}


def _environment(name: str, value: dict[bytes, bytes | None]) -> dict[bytes, bytes | None]:
    for key, item in value.items():
        if not (isinstance(key, bytes) and isinstance(item, (bytes, type(None)))):
            raise refused("an environment is of bytes")
        if not key or b"=" in key or b"\0" in key or b"\0" in (item or b""):
            raise refused("the environment cannot hold %r" % key)
    return value


def _position(name: str, value: Mapping[str, Any]) -> dict[str, int]:
    position = {stream: value.get(stream, 0) for stream in NAMES.values()}
    if not all(type(at) is int and 0 <= at <= MAX_SIZE for at in position.values()):
        raise refused("the argument %s is not a position" % name)
    return position


def _last_pruned(name: str, value: list[Any]) -> list[Any]:
    if [type(item) for item in value] != [float, str]:
        raise refused("the argument %s is not from an answer of this verb" % name)
    return value


def _limits(name: str, value: Fields) -> Fields:
    """Those of `LIMITS` are checked; whatever else there is is written down as it is."""
    known = take_all(LIMITS, value)
    if "on_max" in value and (known["on_max"] is None or known["max_output"] is None):
        raise refused(_ON_MAX_WORDS)
    return value


def _output_size(name: str, value: int) -> int:
    if not 0 < value < MOST_OUTPUT:
        raise refused("the limit %s is not a number of bytes" % name)
    return value


def _function(name: str, value: Fields) -> Fields:
    return take_all(FUNCTION, value)


def _manner(name: str, value: Fields) -> Fields:
    whole = all(isinstance(value.get(key, 0), int) for key in ("whole", "umask", "nice"))
    if not whole or not isinstance(value.get("limits", {}), dict):
        raise refused("the argument %s is malformed" % name)
    for limit in value.get("limits", {}).values():
        if not (isinstance(limit, list) and [type(number) for number in limit] == [int, int]):
            raise refused("a limit has two numbers")
    return value


def _one_of(words: str, *choices: str) -> Kind:
    """``words`` say what it is not; a ``%r`` in them is the value."""

    def check(name: str, value: str) -> str:
        if value not in choices:
            raise refused(words % (value,) if "%r" in words else words)
        return value

    return Kind("/".join('"%s"' % choice for choice in choices), (str,), check)


BOOL = Kind("bool", (bool,), None)
INT = Kind("int", (int,), None)
STR = Kind("str", (str,), None)
BIN = Kind("bin", (bytes,), None)
JOB_ID = Kind("job id", (str,), _job_id)
NAME = Kind("name", (str,), _job_name)
SECONDS = Kind("seconds", (float, int), _seconds)
PATH = Kind("path", (bytes,), _path)
COMMAND = Kind("command", (dict,), _command)
ENVIRONMENT = Kind("env", (dict,), _environment)
POSITION = Kind("position", (dict,), _position)
CELLS = Kind("0 to 65535", (int,), _cells)

_ON_MAX_WORDS = "the limit on_max is stop or truncate, with max_output"
# What is checked of the limits of a job.
LIMITS: tuple[Field, ...] = (
    Field("lease", SECONDS, None),
    Field("max_output", Kind("1 to 2^62 - 1", (int,), _output_size), None),
    Field("on_max", _one_of(_ON_MAX_WORDS, *ON_MAX), None),
)
_TO_COME = Kind("0 or more", (int,), _bytes_to_come)
# How a function was written, and the bytes of its two parts.
FUNCTION: tuple[Field, ...] = (
    Field("kind", STR, REQUIRED),
    Field("program", _TO_COME, REQUIRED),
    Field("arguments", _TO_COME, REQUIRED),
    Field("trust", BOOL, False),
)

_PYTHON = Field("python", PATH, None)
# What the agent needs for the verb: few sessions do, so it comes with that.
_MODULES = Field("modules", BIN, REQUIRED)
# What a `start` has for any job.
JOB_FIELDS = (
    Field("id", JOB_ID, REQUIRED),
    Field("command", COMMAND, REQUIRED),
    Field("cwd", PATH, None),
    Field("env", ENVIRONMENT, dict),
    Field("name", NAME, None),
    Field("unique", BOOL, False),
    Field("group", STR, None),
    Field("placement", STR, None),
    Field("spool", BOOL, REQUIRED),
    Field("lifetime", _one_of("the lifetime %r is none", *LIFETIMES), None),
    Field("timeout", SECONDS, None),
    Field("merge", BOOL, False),
    Field("leftovers", _one_of("the argument leftovers is leave or stop", *LEFTOVERS), "leave"),
    Field("stdin", BOOL, False),
    Field("limits", Kind("limits", (dict,), _limits), dict),
)
# And for functions alone.
FUNCTION_FIELDS = (
    Field("function", Kind("function", (dict,), _function), None),
    _PYTHON,
    Field("task", BIN, b""),
)
_JOB = Field("job", JOB_ID, REQUIRED)
_SCREEN = (Field("rows", CELLS, REQUIRED), Field("columns", CELLS, REQUIRED))
_LINES = Kind("int", (int,), _at_least_one)
_SAVED = _one_of("only stdout and stderr can be saved", NAMES[STDOUT], NAMES[STDERR])

REQUESTS: dict[str, tuple[Field, ...]] = {
    "start": (
        *JOB_FIELDS,
        *FUNCTION_FIELDS,
        Field("manner", Kind("manner", (dict,), _manner), None),
    ),
    "jobs": (Field("after", STR, None), Field("limit", Kind("int", (int,), _page), MAX_PAGE)),
    "find": (Field("name", STR, REQUIRED),),
    "watch": (_JOB,),
    "read": (
        _JOB,
        Field("position", POSITION, None),
        Field("follow", BOOL, True),
        Field("consume", BOOL, False),
    ),
    "tail": (_JOB, Field("lines", _LINES, REQUIRED), Field("stream", STR, None)),
    "stop": (_JOB, Field("grace", SECONDS, STOP_GRACE)),
    "suspend": (_JOB,),
    "resume": (_JOB,),
    "signal": (_JOB, Field("signal", STR, REQUIRED)),
    "remove": (_JOB, Field("force", BOOL, False), Field("leave", BOOL, False)),
    "save": (
        _JOB,
        Field("path", PATH, REQUIRED),
        Field("cwd", PATH, None),
        Field("stream", _SAVED, NAMES[STDOUT]),
    ),
    "prune": (
        Field("older_than", SECONDS, None),
        Field("max_total", INT, None),
        Field("dry_run", BOOL, False),
        Field("after", Kind("[float, str]", (list,), _last_pruned), None),
    ),
    "seal": (_JOB,),
    "python": (_PYTHON, Field("packages", INT, REQUIRED), _MODULES),
    "pool": (
        _PYTHON,
        Field("workers", INT, None),
        Field("most_calls", Kind("int", (int,), _at_least_one), 1000),
        Field("trust", BOOL, False),
    ),
    "enter": (
        *_SCREEN,
        Field("term", STR, REQUIRED),
        Field("env", ENVIRONMENT, dict),
        Field("prompt", STR, None),
        Field("command", COMMAND, None),
        _MODULES,
    ),
}

# Events of a caller. ``after``: they are heeded once so many pieces have come before.
EVENTS: dict[str, tuple[Field, ...]] = {
    "used": (Field("position", POSITION, None),),
    "resize": _SCREEN,
    "cancel": (
        Field("after", INT, REQUIRED),
        Field("call", INT, None),
        Field("program", INT, None),
    ),
    "forget": (Field("after", INT, REQUIRED), Field("program", INT, REQUIRED)),
}


# -- what holds of several fields together


def _start(fields: Fields) -> None:
    for name, default in (("placement", "keep"), ("lifetime", "detached")):
        if fields[name] is None:
            if not fields["spool"]:
                raise refused("the argument %s is missing or malformed" % name)
            fields[name] = default
    if not fields["spool"] and fields["lifetime"] != "session":
        raise refused("a job that is not kept lives as long as its session")
    if (fields["limits"].get("lease") is not None) != (fields["lifetime"] == "lease"):
        raise refused("the lifetime lease needs a limit of that name, no other one")
    if fields["function"] is None and "function" in fields["command"]:
        raise refused("the argument function is missing or malformed")


def _prune(fields: Fields) -> None:
    if fields["older_than"] is None and fields["max_total"] is None:
        raise refused("neither older_than nor max_total was given")


_RULES: dict[str, Callable[[Fields], None]] = {"start": _start, "prune": _prune}


# -- what the ends make of them


def parse(verb: str, args: Mapping[str, Any]) -> Fields:
    """All fields of the request, within their bounds. Raises Refused, which says of which ``verb``
    it is, and where it is one ``argument`` that is wrong, of which."""
    try:
        fields = take_all(REQUESTS[verb], args)
        if verb in _RULES:
            _RULES[verb](fields)
    except Refused as exc:
        exc.facts["verb"] = verb
        raise
    return fields


def parse_event(name: str, args: Mapping[str, Any]) -> Fields | None:
    """The same of an event; None where it is one of a later version."""
    return take_all(EVENTS[name], args) if name in EVENTS else None


def build(verb: str, fields: Mapping[str, Any]) -> list[object]:
    """The body of a REQUEST, to be packed. Raises TypeError where the fields are not the verb's:
    what is in them is for the agent to judge."""
    known = {field.name: field.default for field in REQUESTS.get(verb, ())}
    for name in fields:
        if name not in known:
            raise TypeError("the request %s has no field %s" % (verb, name))
    for name, default in known.items():
        if default is REQUIRED and name not in fields:
            raise TypeError("the request %s needs a field %s" % (verb, name))
    return [verb, fields]
