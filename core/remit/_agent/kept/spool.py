"""A kept job's pipes, at its supervisor's end: output on its way to the files, and what it reads.

Standard library only, Python 3.6.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import time
from typing import TYPE_CHECKING

from remit._jobdir import files, retention

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Callable, Union

    from remit._agent.kept.barrier import Turns
    from remit._wire import records

    Data = Union[bytes, bytearray]


# What is read at once: of a job that prints little, and of one that filled as much.
_SMALL_PIECE = 1 << 13
_PIECE = 1 << 18
_PIPE_SIZE = 1 << 20
_F_SETPIPE_SZ = 1031
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Source:
    """One pipe from the job, and the file that its output goes to."""

    def __init__(self, fd: int, name: bytes, file: int) -> None:
        self.fd = fd
        self.name = name
        self.file = file
        self.size = 0  # what was written to the file
        self.indexed = 0  # and how much of that the index tells of
        self.inode = os.fstat(fd).st_ino


class Spool:
    """``given_up`` is called once, with words and a reason, where no more can be kept."""

    def __init__(self, given_up: Callable[[str, str], object]) -> None:
        self._dir_fd = -1
        self._given_up = given_up
        self._index = -1
        self._most: int | None = None
        self._tail: retention.Retention | None = None
        self._closed = False
        self._buffer = memoryview(bytearray(_SMALL_PIECE))
        self.sources: dict[int, Source] = {}
        self._all: list[Source] = []  # the same, those at their end included
        self.spotter: records.Spotter | None = None  # of a function

    def open(self, dir_fd: int, most: int | None, truncate: bool) -> None:
        """``most`` bytes are taken in all; with ``truncate`` the newest of each stream are kept."""
        self._dir_fd = dir_fd
        self._index = files.open_output(self._dir_fd, files.INDEX)
        if truncate and most is not None:
            self._tail = retention.Retention(self._dir_fd, self._index, most)
        else:
            self._most = most

    def open_stream(self, name: bytes) -> int:
        """The pipe's end for the job; the other one is watched for."""
        reader, writer = os.pipe()
        try:
            fcntl.fcntl(reader, _F_SETPIPE_SZ, _PIPE_SIZE)
        except OSError:
            pass  # the account's share of large pipes is used up
        os.set_blocking(reader, False)
        source = Source(reader, name, files.open_output(self._dir_fd, name))
        self.sources[reader] = source
        self._all.append(source)
        if name == b"records":
            from remit._wire import records  # few jobs are functions

            self.spotter = records.Spotter()
        return writer

    @property
    def sizes(self) -> dict[str, int]:
        sizes = {"stdout": 0, "stderr": 0}
        sizes.update({source.name.decode(): source.size for source in self._all})
        return sizes

    def close(self) -> None:
        """From now on nothing is appended; what still comes is read, and dropped."""
        self._closed = True
        if self._tail is not None:
            try:
                self._free_the_oldest()
            except OSError:
                pass  # more than was asked for stays

    def take_in_order(self, fd: int) -> Iterator[int]:
        """Reads once from that source, and before a record what was printed before it: that is in
        its pipe by then. Gives the descriptors of those that are at their end, which are closed."""
        fds = [fd]
        if self.sources[fd].name == b"records":
            fds = [other for other in self.sources if other != fd] + fds
        for each in fds:
            if not self._take(each):
                yield each

    def _take(self, fd: int) -> bool:
        """Reads once from one of the sources; False at its end, and the descriptor is closed."""
        source = self.sources[fd]
        try:
            size = os.readv(fd, [self._buffer])
        except BlockingIOError:
            return True
        if not size:
            del self.sources[fd]
            os.close(fd)
            return False
        data = self._buffer[:size]
        if size == _SMALL_PIECE == len(self._buffer):
            self._buffer = memoryview(bytearray(_PIECE))
        if not self._closed:
            self._append(source, data)
        return True

    def _append(self, source: Source, data: memoryview) -> None:
        offset, whole = source.size, data
        too_much = False
        if self._most is not None:
            room = self._most - sum(each.size for each in self._all)
            too_much = len(data) > room
            data = data[:room]
        try:
            try:
                while data:
                    written = os.write(source.file, data)
                    source.size += written
                    data = data[written:]
            finally:
                self._note_in_index(source)
        except OSError as exc:
            self._out_of_space(exc)
        if self.spotter is not None and source.name == b"records":
            self.spotter.feed(whole[: source.size - offset])
        if too_much and not self._closed:
            words = "there was more output than the %s bytes that were asked for"
            self._give_up(words % self._most, "max-output")
        elif self._tail is not None and self._tail.is_due(source.name.decode(), source.size):
            try:
                self._free_the_oldest()
            except OSError as exc:
                self._out_of_space(exc)

    def _note_in_index(self, source: Source) -> None:
        size = source.size - source.indexed
        if not size:
            return
        line = files.pack_line(time.time(), source.name, source.indexed, size)
        try:
            files.write_all(self._index, line)
        except OSError:
            # A reader takes what follows the last whole line as one last piece.
            lines = os.fstat(self._index).st_size // files.LINE_SIZE
            os.ftruncate(self._index, lines * files.LINE_SIZE)
            raise
        source.indexed = source.size

    def _free_the_oldest(self) -> None:
        assert self._tail is not None
        self._tail.cut({each.name.decode(): (each.file, each.size) for each in self._all})

    def _out_of_space(self, exc: OSError) -> None:
        words = "the output could not be written: %s" % exc.strerror
        self._give_up(words, "no-space" if exc.errno in _NO_SPACE else "write-failed")

    def _give_up(self, words: str, reason: str) -> None:
        self._closed = True
        self._given_up(words, reason)


class Inputs:
    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._unsent: dict[int, memoryview] = {}

    def open(self, data: Data) -> int:
        """The end of a pipe that the job reads; the rest is done in turns."""
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        self._unsent[writer] = memoryview(data)
        self._turns.watch(writer, select.POLLOUT, self._feed)
        return reader

    def close(self) -> None:
        """Nobody is left who would read any of it. Twice is quiet."""
        for fd in list(self._unsent):
            self._close(fd)

    def _feed(self, fd: int) -> None:
        data = self._unsent[fd]
        try:
            sent = os.write(fd, data[:_PIECE])
        except BlockingIOError:
            return
        except OSError:  # the job reads no more
            sent = len(data)
        self._unsent[fd] = data[sent:]
        if not self._unsent[fd]:
            self._close(fd)

    def _close(self, fd: int) -> None:
        del self._unsent[fd]
        self._turns.unwatch(fd)
        os.close(fd)
