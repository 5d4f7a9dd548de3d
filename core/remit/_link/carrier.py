"""Transports of plugins, each call guarded: what they raise is named, and is no bug of remit.

A connection that fails is the end of the stream, by whatever exception a library tells it. What a
plugin awaits it awaits in tasks of its own: one that goes on for ever is left behind.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any

import anyio

from remit._errors import ConnectError, PluginError, RemitError, text_of
from remit._link.background import GRACE, Errand
from remit._plugins import Plugins
from remit._pump import CUT, TAIL
from remit.abc import (
    ByteStream,
    End,
    ExplainsFailure,
    HasFileno,
    IsHere,
    TakesRawAddress,
    Target,
    Transport,
)

# Seconds that leaving a connection may take: more than `open_process` takes to kill its program.
LEAVING = 10.0


class Carried:
    """The stream of a transport: `remit.abc.ByteStream`. ``broken`` is what ended it, where that
    was an exception: a PluginError where it was none of a connection.

    A call whose caller is cancelled stays under way, for the next who calls, until `end`.
    """

    def __init__(self, stream: ByteStream, plugin: str, plugins: Plugins) -> None:
        self.broken: Exception | None = None
        self._stream = stream
        self._plugin = plugin
        self._plugins = plugins
        self._under_way: dict[str, Errand[Any]] = {}

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """``b""`` also where the stream failed."""
        return await self._received(partial(self._stream.receive, max_bytes))

    async def _received(self, function: Callable[[], Awaitable[bytes]]) -> bytes:
        try:
            data: bytes = await self._call("receive", function)
            if isinstance(data, (bytes, bytearray)):
                return data
            raise self._fault("receive", TypeError(f"gave a {type(data).__name__}, not bytes"))
        except CUT as exc:
            self.broken = self.broken or exc
        except PluginError as exc:
            self.broken = exc
        return b""

    async def read(self, max_bytes: int, hear: Callable[[bytes], None]) -> None:
        """Hands all that comes to ``hear``, up to the end, and raises what that raises. It is
        called in the task that receives: to hand each piece over to another takes its time."""
        over = False
        raised: list[Exception] = []

        async def read_on() -> bytes:
            while True:
                data = await self._stream.receive(max_bytes)
                if over or not data or not isinstance(data, (bytes, bytearray)):
                    return data
                try:
                    hear(data)
                except Exception as exc:
                    raised.append(exc)
                    return b""

        try:
            await self._received(read_on)
        finally:
            over = True
            if "receive" in self._under_way:
                self._under_way["receive"].cancel()
        if raised:
            raise raised[0]

    async def send(self, data: bytes) -> None:
        """Raises BrokenPipeError where the stream failed, or where an earlier send was cancelled:
        a part of that may be on its way."""
        if "send" in self._under_way:
            raise BrokenPipeError("an earlier send was cancelled")
        try:
            await self._call("send", partial(self._stream.send, data))
        except CUT as exc:
            raise BrokenPipeError(text_of(exc)) from exc
        except PluginError as exc:
            self.broken = exc
            raise BrokenPipeError from exc

    async def wait(self) -> End:
        try:
            end: End = await self._call("wait", self._stream.wait)
            if isinstance(end, End) and isinstance(end.stderr, bytes):
                status = end.exit_status
                return End(status if isinstance(status, int) else None, end.stderr)
        except (*CUT, PluginError):
            pass  # what went wrong is told without it
        return End(None, self.stderr_tail)

    @property
    def stderr_tail(self) -> bytes:
        try:
            return bytes(self._stream.stderr_tail[-TAIL:])
        except BaseException:
            return b""  # what went wrong is told without it

    @property
    def descriptor(self) -> int | None:
        """Where bytes may be written beside `send`; None: nowhere. See `remit.abc.HasFileno`."""
        if not isinstance(self._stream, HasFileno):
            return None
        try:
            fileno = self._stream.fileno()
            if not isinstance(fileno, int):
                raise TypeError(f"gave a {type(fileno).__name__}, not an int")
        except BaseException as exc:
            self._plugins.report(self._plugin, "fileno() of a stream", exc)
            return None
        return fileno

    async def end(self) -> None:
        """Ends what is under way. What does not end is reported and left behind."""
        for call in self._under_way.values():
            call.cancel()
        deadline = anyio.current_time() + GRACE
        for method, call in self._under_way.items():
            exc = TimeoutError(f"it went on for {GRACE:g} s after a cancel")
            late = partial(self._plugins.report, self._plugin, f"{method}() of a stream", exc)
            await call.end(max(0.0, deadline - anyio.current_time()), late)

    async def _call(self, method: str, function: Callable[[], Awaitable[Any]]) -> Any:
        """What it gives. Raises what `CUT` has, and PluginError for anything else."""
        call = self._under_way.get(method)
        if call is None:
            call = self._under_way[method] = Errand(function)
        await call.over.wait()
        if self._under_way.get(method) is call:
            del self._under_way[method]
        if call.came:
            return call.result()
        error = _only(call.error)
        if isinstance(error, CUT):
            raise error
        raise self._fault(method, error) from error

    def _fault(self, method: str, exc: BaseException) -> PluginError:
        return PluginError.of(self._plugin, f"{method}() of a stream", exc)


class Carrier:
    """A transport as sessions use it."""

    def __init__(self, transport: Transport, plugins: Plugins) -> None:
        self._transport = transport
        self._plugins = plugins
        self._plugin = plugins.whose(transport)

    @property
    def takes_options(self) -> bool:
        """Whether its targets have a query, ``?python=`` in it."""
        return not self._has(TakesRawAddress, "raw_address")

    @property
    def here(self) -> bool:
        """Whether its targets are this computer."""
        return self._has(IsHere, "here")

    def _has(self, ability: type, name: str) -> bool:
        try:
            return isinstance(self._transport, ability) and bool(getattr(self._transport, name))
        except BaseException as exc:
            self._plugins.report(self._plugin, name, exc)
            return False

    @asynccontextmanager
    async def open(self, target: Target, argv: Sequence[str]) -> AsyncIterator[Carried]:
        """As `Transport.open`. Entering raises TargetError and ConnectError, and PluginError where
        the plugin raises anything else; so does leaving where the connection's own tasks failed,
        which cancels the body. What goes wrong on leaving is reported alone.

        Leaving is cancelled after `LEAVING` seconds, and what then goes on is left behind. A cancel
        of who leaves is handed on, and waits as long as that for a connection to end."""
        connection = _Connection(self._transport, target, argv, self._plugin, self._plugins)
        stream = await connection.enter()
        with anyio.CancelScope() as body:
            connection.fell = body.cancel
            try:
                yield stream
            finally:
                await connection.leave(stream)
        if body.cancelled_caught:
            raise connection.trouble()

    def explain(self, target: Target, end: End) -> ConnectError | None:
        """What the transport knows of such an end; None also where it fails to tell."""
        if not isinstance(self._transport, ExplainsFailure):
            return None
        try:
            error = self._transport.explain(target, end)
            if error is not None and not isinstance(error, ConnectError):
                raise TypeError(f"explain() gave a {type(error).__name__}, no ConnectError")
        except BaseException as exc:
            self._plugins.report(self._plugin, "explain", exc)
            return None
        return error


class _Connection:
    """The context that a transport opens: a task of its own enters, holds and leaves it."""

    def __init__(
        self,
        transport: Transport,
        target: Target,
        argv: Sequence[str],
        plugin: str,
        plugins: Plugins,
    ) -> None:
        self.fell: Callable[[], object] = _nothing  # called where it ends while it is in use
        self._transport = transport
        self._target = target
        self._argv = argv
        self._plugin = plugin
        self._plugins = plugins
        self._stream: Carried | None = None
        self._entered = anyio.Event()  # or failed to be
        self._leave = anyio.Event()
        self._errand = Errand(self._hold)

    async def _hold(self) -> None:
        try:
            async with _context(self._transport.open(self._target, self._argv)) as stream:
                if stream is None:
                    raise TypeError("gave no stream")
                self._stream = Carried(stream, self._plugin, self._plugins)
                self._entered.set()
                await self._leave.wait()
        finally:
            self._entered.set()
            if not self._leave.is_set():
                self.fell()

    async def enter(self) -> Carried:
        try:
            await self._entered.wait()
        except BaseException:
            await self._end(LEAVING, "")
            raise
        if self._stream is None or self._errand.over.is_set():
            raise self.trouble()
        return self._stream

    async def leave(self, stream: Carried) -> None:
        """Raises nothing but the cancel of who leaves."""
        fell = self._errand.over.is_set()
        self._leave.set()
        try:
            await stream.end()
            with anyio.move_on_after(LEAVING):
                await self._errand.over.wait()
        except BaseException:
            await self._end(LEAVING, "")
            raise
        else:
            await self._end(GRACE, f"was not closed within {LEAVING:g} s")
        finally:
            if self._errand.error is not None and not fell:
                self._report("leaving", _only(self._errand.error))

    async def _end(self, patience: float, late: str) -> None:
        """Ends it, where that is still to be done. ``late`` says what it did already."""
        if self._errand.over.is_set():
            return
        words = [late] if late else []
        try:
            gone_on = f"went on for {patience:g} s after a cancel and is left behind"
            await self._errand.end(patience, lambda: words.append(gone_on))
        finally:
            if words:
                exc = TimeoutError(f"the connection {', '.join(words)}")
                self._report("open()", exc)

    def _report(self, where: str, exc: BaseException) -> None:
        self._plugins.report(self._plugin, where, exc)

    def trouble(self) -> RemitError:
        """Why it could not be entered, or fell."""
        exc = _only(self._errand.error or RuntimeError("the connection ended while it was in use"))
        if isinstance(exc, RemitError):
            return exc
        if isinstance(exc, CUT):
            error: RemitError = ConnectError(f"{self._target} was not reached: {text_of(exc)}")
        else:
            error = PluginError.of(self._plugin, "open()", exc)
        error.__cause__ = exc
        return error


def _context(opened: object) -> AbstractAsyncContextManager[ByteStream]:
    if isinstance(opened, AbstractAsyncContextManager):
        return opened
    if inspect.iscoroutine(opened):
        opened.close()
    raise TypeError(f"gave a {type(opened).__name__}, not an async context manager")


def _only(exc: BaseException | None) -> BaseException:
    """What a task group wrapped, where that is one exception."""
    while isinstance(exc, BaseExceptionGroup) and len(exc.exceptions) == 1:
        exc = exc.exceptions[0]
    return exc or RuntimeError("it was cancelled")


def _nothing() -> None: ...
