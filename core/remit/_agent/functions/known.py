"""The interpreters of a session that run functions, by their paths. The rest of
this package comes with the verb that asks for the first of them. Standard library only, Python 3.6.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from remit._wire.refusal import Refused

if TYPE_CHECKING:
    from remit._agent.base.services import Session
    from remit._agent.functions.interpreter import Interpreter


class Interpreters:
    """Those that were asked for, the ones included that are gone."""

    def __init__(self, session: Session) -> None:
        self.by_path: dict[bytes | None, Interpreter] = {}


def of(session: Session, path: bytes | None) -> Interpreter:
    """The interpreter that the caller has asked for before. Raises Refused."""
    interpreter = session.only(Interpreters).by_path.get(path)
    if interpreter is None or interpreter.gone:
        raise Refused("no-python", "the interpreter for functions is gone")
    return interpreter
