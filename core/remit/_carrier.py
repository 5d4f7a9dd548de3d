"""Transports of plugins, each call guarded: what they raise is named, and is no bug of remit.

A connection that fails is the end of the stream, by whatever exception a library tells it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType

import anyio

from remit._errors import ConnectError, PluginError, RemitError
from remit._plugins import Plugins
from remit._pump import CUT, TAIL
from remit.abc import (
    ByteStream,
    End,
    ExplainsFailure,
    HasFileno,
    TakesRawAddress,
    Target,
    Transport,
)

# Seconds that leaving a connection may take: more than `open_process` takes to kill its program.
LEAVING = 10.0


class Carried:
    """The stream of a transport: `remit.abc.ByteStream`. ``broken`` is what ended it, where that
    was an exception: a PluginError where it was none of a connection."""

    def __init__(self, stream: ByteStream, plugin: str) -> None:
        self.broken: Exception | None = None
        self._stream = stream
        self._plugin = plugin

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """``b""`` also where the stream failed."""
        try:
            data = await self._stream.receive(max_bytes)
            if isinstance(data, (bytes, bytearray)):
                return data
            raise TypeError(f"gave a {type(data).__name__}, not bytes")
        except CUT as exc:
            self.broken = self.broken or exc
        except Exception as exc:
            self.broken = PluginError.of(self._plugin, "receive() of a stream", exc)
        return b""

    async def send(self, data: bytes) -> None:
        """Raises BrokenPipeError where the stream failed."""
        try:
            await self._stream.send(data)
        except CUT as exc:
            raise BrokenPipeError(str(exc)) from exc
        except Exception as exc:
            self.broken = PluginError.of(self._plugin, "send() of a stream", exc)
            raise BrokenPipeError from self.broken

    async def wait(self) -> End:
        try:
            end = await self._stream.wait()
        except Exception:
            return End(None, self.stderr_tail)
        return end if isinstance(end, End) else End(None, self.stderr_tail)

    @property
    def stderr_tail(self) -> bytes:
        try:
            return bytes(self._stream.stderr_tail[-TAIL:])
        except Exception:
            return b""  # what went wrong is told without it


class _WithFileno(Carried):
    def fileno(self) -> int:
        assert isinstance(self._stream, HasFileno)
        return self._stream.fileno()


class Carrier:
    """A transport as sessions use it."""

    def __init__(self, transport: Transport, plugins: Plugins) -> None:
        self._transport = transport
        self._plugins = plugins
        self._plugin = plugins.whose(transport)

    @property
    def takes_options(self) -> bool:
        """Whether its targets have a query, ``?python=`` in it."""
        raw = isinstance(self._transport, TakesRawAddress) and self._transport.raw_address
        return not raw

    @asynccontextmanager
    async def open(self, target: Target, argv: Sequence[str]) -> AsyncIterator[Carried]:
        """As `Transport.open`. Entering raises TargetError and ConnectError, and PluginError where
        the plugin raises anything else. Leaving is cancelled after `LEAVING` seconds."""
        error: BaseException | None = None
        # Around all of it: scopes nest, and what the plugin entered it leaves within this one.
        with anyio.CancelScope() as scope:
            opened = _Opened(self._transport, self._plugin, self._plugins, target, argv)
            async with opened as stream:
                try:
                    yield stream
                except BaseException as exc:
                    error = exc
                    raise
                finally:
                    scope.deadline = anyio.current_time() + LEAVING
        if scope.cancelled_caught:
            late = TimeoutError(f"the connection was not closed within {LEAVING:g} s")
            self._plugins.report(self._plugin, "leaving", late)
            if error is not None:
                raise error

    def explain(self, target: Target, end: End) -> ConnectError | None:
        """What the transport knows of such an end; None also where it fails to tell."""
        if not isinstance(self._transport, ExplainsFailure):
            return None
        try:
            error = self._transport.explain(target, end)
            if error is not None and not isinstance(error, ConnectError):
                raise TypeError(f"explain() gave a {type(error).__name__}, no ConnectError")
        except Exception as exc:
            self._plugins.report(self._plugin, "explain", exc)
            return None
        return error


class _Opened(AbstractAsyncContextManager[Carried]):
    def __init__(
        self,
        transport: Transport,
        plugin: str,
        plugins: Plugins,
        target: Target,
        argv: Sequence[str],
    ) -> None:
        self._transport = transport
        self._plugin = plugin
        self._plugins = plugins
        self._target = target
        self._argv = argv

    async def __aenter__(self) -> Carried:
        try:
            self._context = self._transport.open(self._target, self._argv)
            stream = await self._context.__aenter__()
        except Exception as exc:
            raise self._trouble(_only(exc)) from exc
        kind = _WithFileno if isinstance(stream, HasFileno) else Carried
        return kind(stream, self._plugin)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            swallowed = await self._context.__aexit__(kind, error, traceback)
        except Exception as exc:
            if exc is error:
                return
            if error is not None:
                # A task of the plugin's failed, and its scope cancelled us.
                raise self._trouble(_only(exc)) from exc
            self._plugins.report(self._plugin, "leaving", _only(exc))
            return
        if swallowed and error is not None:
            raise PluginError.of(self._plugin, "open()", RuntimeError("cancelled who used it"))

    def _trouble(self, exc: Exception) -> RemitError:
        if isinstance(exc, RemitError):
            return exc
        if isinstance(exc, CUT):
            words = str(exc) or type(exc).__name__
            return ConnectError(f"{self._target} was not reached: {words}")
        return PluginError.of(self._plugin, "open()", exc)


def _only(exc: Exception) -> Exception:
    """What a task group wrapped, where that is one exception."""
    while isinstance(exc, ExceptionGroup) and len(exc.exceptions) == 1:
        exc = exc.exceptions[0]
    return exc
