"""What goes to our stdout and stderr: bytes as they are, or harmless where a terminal reads."""

from __future__ import annotations

from typing import Protocol

from remit import Gap, Record
from remit._wire.sanitize import one_line
from remit.cli import _lines
from remit.cli._colours import Colours
from remit.cli._descriptor import Descriptor

# Longer lines than this are cut when the lines of several jobs share one stream.
LONGEST_LINE = 1 << 20


class Sink(Protocol):
    """Takes the bytes of one stream of one job."""

    async def write(self, data: bytes) -> None:
        """Raises BrokenPipeError once nobody reads."""

    async def finish(self) -> None:
        """Gives out what was held back. Called once, after the last `write`."""


class Harmless:
    """What a terminal is shown: text and its colours."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._filter = Colours()

    async def write(self, data: bytes) -> None:
        await self._pass_on(self._filter.feed(data))

    async def finish(self) -> None:
        await self._pass_on(self._filter.feed(b"", final=True))
        await self._sink.finish()

    async def _pass_on(self, data: bytes) -> None:
        if data:
            await self._sink.write(data)


class Lines:
    """Whole lines with ``prefix`` in front, so that several jobs can share one stream."""

    def __init__(self, prefix: bytes, sink: Sink, *, terminal: bool) -> None:
        """On a ``terminal`` a carriage return is shown: it would hide whose line it is."""
        self._prefix = prefix
        self._terminal = terminal
        self._sink = sink
        self._begun = bytearray()

    async def write(self, data: bytes) -> None:
        self._begun += data
        if b"\n" in data:
            *lines, rest = self._begun.split(b"\n")
            self._begun = rest
            await self._sink.write(b"".join(self._line(bytes(line)) for line in lines))
        while len(self._begun) >= LONGEST_LINE:
            piece = bytes(self._begun[:LONGEST_LINE])
            del self._begun[:LONGEST_LINE]
            await self._sink.write(self._line(piece))

    async def finish(self) -> None:
        if self._begun:
            await self._sink.write(self._line(bytes(self._begun)))
            self._begun.clear()
        await self._sink.finish()

    def _line(self, line: bytes) -> bytes:
        if self._terminal:
            line = line.removesuffix(b"\r").replace(b"\r", b"\\r")
        return self._prefix + line + b"\n"


class Output:
    """Both streams of one job, on their way to our stdout and stderr."""

    def __init__(self, stdout: Sink, stderr: Sink) -> None:
        self._sinks = {"stdout": stdout, "stderr": stderr}

    async def write(self, stream: str, data: object) -> None:
        """A piece of ``stream``. Of a function each value is a line on stdout, and what it tells
        besides are lines on stderr."""
        if stream in self._sinks and isinstance(data, bytes):
            await self._sinks[stream].write(data)
        elif stream == "value" and not isinstance(data, Gap):
            value = _lines.value(data).encode("utf-8", "backslashreplace")
            await self._sinks["stdout"].write(value + b"\n")
        else:
            talk = _lines.talk(data).encode("utf-8", "backslashreplace")
            await self._sinks["stderr"].write(talk + b"\n")

    async def show(self, record: Record) -> None:
        await self.write(record.stream, record.data)

    async def finish(self) -> None:
        for sink in self._sinks.values():
            await sink.finish()


class Objects(Output):
    """Each record as a line of JSON, on our stdout."""

    def __init__(self, stdout: Sink) -> None:
        super().__init__(stdout, stdout)
        self._stdout = stdout

    async def show(self, record: Record) -> None:
        from remit.cli._shown import as_object

        await self._stdout.write(as_object(record))

    async def finish(self) -> None:
        """Nothing is held back."""


class Outputs:
    """Makes an `Output` for each job. A terminal is shown harmless text unless ``raw``; a program
    is given objects, with ``as_json``."""

    def __init__(self, *, raw: bool, as_json: bool = False) -> None:
        self._raw = raw
        self._as_json = as_json
        self._stdout = Descriptor(1)
        self._stderr = Descriptor(2)

    def of(self, prefix: str | None = None) -> Output:
        """For one job; with ``prefix`` its output comes as lines that begin with it."""
        if self._as_json:
            return Objects(self._stdout)
        return Output(self._sink(self._stdout, prefix), self._sink(self._stderr, prefix))

    def _sink(self, descriptor: Descriptor, prefix: str | None) -> Sink:
        sink: Sink = descriptor
        harmless = descriptor.terminal and not self._raw
        if prefix is not None:
            # Text of one job must not end inside another's: the lines are made first.
            sink = Lines(f"{one_line(prefix)}: ".encode(), sink, terminal=harmless)
        if harmless:
            sink = Harmless(sink)
        return sink
