"""A local caller: one more caller of the agent, who came through a control socket on the target
itself.

He speaks the same frames and has the same verbs. What he starts belongs to the session.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from remit._agent.base.link import Link
from remit._wire.conversation import PROTOCOL, ProtocolError
from remit._wire.msgpack import UnpackError, pack, unpack

if TYPE_CHECKING:
    from remit._agent.base.services import Session


class LocalCaller(Link):
    """A link to the session of the terminal that he sits at."""

    local = True

    def __init__(self, session: Session, fd: int, first: bytes) -> None:
        """``fd`` is a connected socket, which is the local caller's from here on. ``first`` is sent
        in front of the first frame."""
        super().__init__(session.loop, fd, fd, session.verbs, first)
        self.session = session
        self.present = True
        os.set_blocking(fd, False)
        session.local_callers.append(self)
        self.loop.watch_fd(fd, self._read_link)

    def close(self) -> None:
        """Gives up all that the local caller has asked for. Twice is quiet."""
        if not self.present:
            return
        self.present = False
        self.session.local_callers.remove(self)
        self.loop.unwatch_fd(self._link_in)
        self.loop.unwatch_writable(self._link_out)
        os.close(self._link_in)
        handlers, self.handlers = self.handlers, {}
        for handler in handlers.values():
            self.loop.call_for(None, handler.on_close)

    def write_link(self) -> None:
        if self.present:
            super().write_link()

    def _greet(self, body: bytes) -> None:
        try:
            hello = unpack(body)
        except UnpackError as exc:
            raise ProtocolError("the hello: %s" % exc) from exc
        if not isinstance(hello, dict) or hello.get("protocol") != PROTOCOL:
            raise ProtocolError("a local caller of another protocol")
        self.conversation.hello(pack({"protocol": PROTOCOL, "features": []}))

    def _finish(self, status: int, reason: str | None) -> None:
        self.close()

    def _cut(self) -> None:
        self.close()
