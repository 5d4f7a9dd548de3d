"""Where it is measured: this computer, and an sshd on loopback where that can be had."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs

from testbed import accounts
from testbed.sshd import Sshd


@attrs.frozen
class Place:
    """``ssh`` are the first words of a plain ssh command; None where there is no sshd.

    ``scale`` makes everything smaller, for trying things out.
    """

    loop: str
    directory: Path
    ssh: tuple[str, ...] | None
    ssh_target: str | None
    scale: float

    def amount(self, full: int) -> int:
        return max(1, int(full * self.scale))

    def local_target(self, name: str) -> str:
        """``local:`` with a state directory of its own, of that name and this event loop."""
        state = self.directory / f"{name}-{self.loop}"
        state.mkdir(mode=0o700, exist_ok=True)
        return f"local:?state={state}"


@contextmanager
def sshd(directory: Path) -> Iterator[Sshd]:
    """The testbed's, with an account whose shell prints nothing of its own."""
    with accounts.held():
        server = Sshd(directory / "sshd")
        try:
            yield server
        finally:
            server.close()
