"""A request that was refused, and what the caller is told of it. No I/O; Python 3.6."""

from __future__ import annotations


class Refused(Exception):
    """What was asked cannot be done: a refusal of docs/wire.md, with its code and facts."""

    def __init__(
        self,
        code: str,
        message: str,
        evidence: str | None = None,
        hint: str | None = None,
        **facts: object,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.evidence = evidence
        self.hint = hint
        self.facts = facts
