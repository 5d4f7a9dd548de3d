"""The states of a session and all their moves, on one screen. Pure."""

from __future__ import annotations

from typing import Final

from remit._types import SessionState

# What can happen to a session.
LINK_UP: Final = "link up"
LINK_LOST: Final = "link lost"  # and another is looked for
GIVEN_UP: Final = "given up"  # no link was had, or none will be again
CLOSED_HERE: Final = "closed here"

_ENDS: Final = {GIVEN_UP: SessionState.BROKEN, CLOSED_HERE: SessionState.CLOSED}

NEXT: Final[dict[SessionState, dict[str, SessionState]]] = {
    SessionState.OPENING: {LINK_UP: SessionState.OPEN, **_ENDS},
    SessionState.OPEN: {LINK_LOST: SessionState.RECONNECTING, **_ENDS},
    SessionState.RECONNECTING: {LINK_UP: SessionState.OPEN, **_ENDS},
    SessionState.BROKEN: {},
    SessionState.CLOSED: {},
}


def finished(state: SessionState) -> bool:
    """Whether nothing follows it."""
    return not NEXT[state]


def move(state: SessionState, event: str) -> SessionState:
    """The state after ``event``. Raises ValueError where the table has no such move."""
    try:
        return NEXT[state][event]
    except KeyError:
        raise ValueError(f"a session that is {state} cannot be: {event}") from None
