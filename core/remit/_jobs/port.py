"""What jobs and their readers use of the session that they belong to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from remit._jobs.request import Function
from remit._jobs.session_jobs import SessionJobs
from remit._jobs.stores import Stores
from remit._jobs.tasks import Tasks
from remit._link.link import Link
from remit._plugins import Plugins
from remit._types import SessionState

if TYPE_CHECKING:
    from remit._shipping.shipment import Shipment

_T = TypeVar("_T")


class Port(Protocol):
    """Also where no link is there just now: what asks for one waits for the next."""

    plugins: Plugins
    stores: Stores
    jobs: SessionJobs
    tasks: Tasks

    @property
    def target(self) -> str: ...

    @property
    def location(self) -> str: ...

    @property
    def here(self) -> bool:
        """Whether the target is this computer."""

    @property
    def trust(self) -> bool:
        """Whether pickles are taken from there."""

    @property
    def state(self) -> SessionState: ...

    # -- the link

    def check(self) -> None:
        """Raises SessionClosed, and LinkLost or RemoteProtocolError, once the session is over."""

    async def ready(self) -> Link:
        """The link, once there is one. Raises as `check`."""

    async def relinked(self, lost: Link) -> None:
        """Waits until another link than ``lost`` is there. Raises as `check`."""

    async def ask(self, verb: str, arguments: Mapping[str, Any], answer: type[_T]) -> _T:
        """One request and its answer; made again over the next link if one is lost meanwhile.
        Only for requests that may be made twice."""

    async def shipment(self, function: Function) -> Shipment:
        """The function, made ready for the interpreter that is to run it. Raises ShippingError."""

    async def give_up(self, job_id: str, *, spare: bool = False) -> None:
        """Has ``job_id`` stopped, removed and sealed, so that it never runs again; with ``spare``
        only where it never ran. Where there is no link that is done over the next one, and nobody
        waits for it."""
