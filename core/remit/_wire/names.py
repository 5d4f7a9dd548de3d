"""What jobs are called: their ids, and the names that people give them. No I/O; standard library
only, Python 3.6."""

from __future__ import annotations

_LETTERS = "abcdefghijklmnopqrstuvwxyz234567"  # RFC 4648 base32, in small letters
ID_SIZE = 13
JOB, GROUP = "j", "g"  # what ids begin with
_MOST_NAME = 200
NAME_WORDS = "a name is 1 to 200 printable characters, not %r"


def id_of(random: bytes, kind: str = JOB) -> str:
    """The id that 12 random bytes make: 60 bits of them."""
    return kind + "".join(_LETTERS[byte % 32] for byte in random[: ID_SIZE - 1])


def is_job_id(text: str, kind: str = JOB) -> bool:
    """Whether it is ``j`` and 12 of a-z and 2-7. It is safe in paths and environments."""
    return len(text) == ID_SIZE and text[0] == kind and not text.strip(_LETTERS)


def is_name(text: str) -> bool:
    return 0 < len(text) <= _MOST_NAME and text.isprintable()
