"""What goes out on a link: the frames of its conversation, as far as the link takes them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Callable

    from remit._agent.base.loop import Loop
    from remit._wire.conversation import Conversation

# What is left of a frame goes out with what follows it, where it is less than this: whoever reads
# would be woken for it alone.
_CRUMB = 1 << 16


class Outgoing:
    def __init__(self, loop: Loop, fd: int, conversation: Conversation, first: bytes) -> None:
        """``first`` goes out in front of the first frame."""
        self._loop = loop
        self._fd = fd
        self._conversation = conversation
        self._begun = memoryview(first)  # frames begun to be written
        self._watching = False  # for when the link takes more

    @property
    def is_all_out(self) -> bool:
        return not (self._begun or self._conversation.queued)

    def write(self, said: Callable[[], object]) -> None:
        """Sends what is queued, as far as the link takes it, and watches for when it takes more.

        ``said`` is called whenever it took something. Raises OSError at the link's end.
        """
        while self._have_more():
            try:
                self._begun = self._begun[os.write(self._fd, self._begun) :]
            except BlockingIOError:
                self._watching = True
                self._loop.watch_writable(self._fd, _nothing)
                return
            said()
        if self._watching:
            self._watching = False
            self._loop.unwatch_writable(self._fd)

    def _have_more(self) -> bool:
        if len(self._begun) < _CRUMB and self._conversation.queued:
            more = self._conversation.data_to_send()
            self._begun = memoryview(b"".join((self._begun, more)) if self._begun else more)
        return bool(self._begun)


def _nothing() -> None:
    """For a watch whose only purpose is to wake the loop."""
