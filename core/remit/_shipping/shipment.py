"""A function and its arguments, ready to be sent to the interpreter that is to run it."""

from __future__ import annotations

from typing import Any

import attrs

from remit._shipping.runtime import Runtime

_WITH_THE_REQUEST = 1 << 18


@attrs.frozen
class Shipment:
    kind: str
    program: bytes
    data: bytes  # the arguments
    python: bytes | None
    trust: bool

    @classmethod
    def of(
        cls, fn: Any, args: tuple[Any, ...], peer: Runtime, python: bytes | None, trust: bool
    ) -> Shipment:
        """Raises ShippingError."""
        from remit._shipping import programs  # with cloudpickle it is slow to import

        program = programs.program(fn, peer)
        data = programs.arguments(args, peer, program.kind)
        return cls(program.kind, program.body, data, python, trust)

    def arguments(self) -> tuple[dict[str, Any], bytes]:
        """What the verb `start` is told, and what is to follow it on the stream TASK."""
        whole = self.program + self.data
        function = {
            "kind": self.kind,
            "program": len(self.program),
            "arguments": len(self.data),
            "trust": self.trust,
        }
        begun = whole[:_WITH_THE_REQUEST]
        arguments = {"function": function, "python": self.python, "task": begun}
        return arguments, whole[len(begun) :]
