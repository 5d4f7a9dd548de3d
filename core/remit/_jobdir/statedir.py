"""The state directory: where this account keeps its jobs on this computer.

Every directory from it down is opened by descriptor, follows no link, and is refused where
somebody else could have put something in it; so is a state directory that stands where somebody
else could put another one in its place. Standard library only, Python 3.6.
"""

from __future__ import annotations

import errno
import os
import stat

from remit._wire.refusal import Refused

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST_LINKS = 40  # as the kernel follows
_HINT = "name another state directory with ?state=DIRECTORY (or $REMIT_STATE_DIR there)"


def refused(message: str) -> Refused:
    """The refusal of whatever needs a state directory."""
    return Refused("no-state", message, hint=_HINT)


def home() -> bytes:
    """The account's home by the password database: $HOME may be anything."""
    import pwd

    try:
        return os.fsencode(pwd.getpwuid(os.geteuid()).pw_dir)
    except KeyError:
        raise refused("user %d is not in the password database" % os.geteuid()) from None


def choose(asked: bytes | None) -> bytes:
    """The path of the state directory: ``asked``, else the environment's, else the home's.

    Raises Refused where none can be named. Makes and opens nothing.
    """
    named = asked or os.environb.get(b"REMIT_STATE_DIR")
    if not named:
        under = os.environb.get(b"XDG_STATE_HOME")
        if under and not under.startswith(b"/"):
            under = None  # the XDG specification: a relative path is to be ignored
        named = os.path.join(under or os.path.join(home(), b".local", b"state"), b"remit")
    if named.startswith(b"~/"):
        named = os.path.join(home(), named[2:])
    if not named.startswith(b"/"):
        raise refused("the state directory %s is not an absolute path" % os.fsdecode(named))
    return os.path.normpath(named)


class State:
    """One state directory by its path; nothing stays open between two calls."""

    def __init__(self, path: bytes) -> None:
        self.path = path

    def problem(self) -> str | None:
        """Why no job can be kept here, as far as that shows without making anything."""
        try:
            os.close(self._open_top())
        except FileNotFoundError:
            return self._problem_above()
        except Refused as exc:
            return exc.message
        except OSError as exc:
            return self._words(exc)
        if not os.access(self.path, os.W_OK | os.X_OK):
            return "the state directory %s cannot be written to" % os.fsdecode(self.path)
        if os.statvfs(self.path).f_flag & os.ST_RDONLY:
            return "the state directory %s is on a read-only file system" % os.fsdecode(self.path)
        return None

    def open_jobs(self, create: bool = False) -> int:
        """A descriptor of ``jobs/``. FileNotFoundError without ``create``; else Refused."""
        return self._open_under(b"jobs", create)

    def open_gone(self, create: bool = False) -> int:
        """The same of ``gone/``."""
        return self._open_under(b"gone", create)

    def _open_under(self, name: bytes, create: bool) -> int:
        try:
            if create:
                make_parents(self.path)
            top = self._open_top()
            try:
                if create:
                    make_directory(name, top)
                return open_directory(name, top, os.path.join(self.path, name))
            finally:
                os.close(top)
        except FileNotFoundError:
            if create:
                raise refused("the state directory %s went away" % os.fsdecode(self.path)) from None
            raise
        except OSError as exc:
            raise refused(self._words(exc)) from exc

    def _open_top(self) -> int:
        return open_directory(self.path, None, self.path)

    def _problem_above(self) -> str | None:
        above = os.path.dirname(self.path)
        while above != b"/" and not os.path.exists(above):
            above = os.path.dirname(above)
        if os.path.isdir(above) and os.access(above, os.W_OK | os.X_OK):
            return None
        return "the state directory %s cannot be made in %s" % (
            os.fsdecode(self.path),
            os.fsdecode(above),
        )

    def _words(self, exc: OSError) -> str:
        return "the state directory %s: %s" % (os.fsdecode(self.path), exc.strerror)


def make_directory(name: bytes, dir_fd: int) -> bool:
    """Whether ``name`` was made, 0700 whatever the umask; False where it is there already."""
    try:
        os.mkdir(name, 0o700, dir_fd=dir_fd)
    except FileExistsError:
        return False
    os.chmod(name, 0o700, dir_fd=dir_fd)
    return True


def make_parents(path: bytes) -> None:
    """Makes the directory and those above it, as far as they are missing, 0700 whatever the umask.

    Where something else is in the way, opening says what. Raises Refused and OSError.
    """
    check_parents(path)
    missing = []
    while not os.path.lexists(path):
        missing.append(path)
        path = os.path.dirname(path)
    for each in reversed(missing):
        try:
            os.mkdir(each, 0o700)
            os.chmod(each, 0o700)
        except FileExistsError:
            pass  # by somebody who was faster


def check_parents(path: bytes) -> None:
    """Raises Refused where somebody else could put another directory in the place of ``path``.

    As OpenSSH's StrictModes: each directory on the way from the root has to be root's or ours, and
    nobody else may write there, unless it is sticky. Links are followed, as the kernel does it.
    What is missing ends the walk. PermissionError where it could not be used anyway.
    """
    try:
        _walk_down_to(path)
    except Refused:
        try:
            os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
        except PermissionError:
            raise
        except OSError:
            pass
        raise


def _walk_down_to(path: bytes) -> None:
    at, left, links = b"/", [*reversed(os.path.dirname(path).split(b"/"))], _MOST_LINKS
    _check_parent(path, at, os.lstat(at))
    while left:
        name = left.pop()
        if name in (b"", b"."):
            continue
        if name == b"..":
            at = os.path.dirname(at)
            continue
        here = os.path.join(at, name)
        try:
            status = os.lstat(here)
        except (FileNotFoundError, NotADirectoryError):
            return
        _check_parent(path, here, status)
        if stat.S_ISLNK(status.st_mode):
            links -= 1
            if not links:
                raise refused("%s: too many links above it" % os.fsdecode(path))
            target = os.readlink(here)
            at = b"/" if target.startswith(b"/") else at
            left += reversed(target.split(b"/"))
        else:
            at = here


def _check_parent(path: bytes, parent: bytes, status: os.stat_result) -> None:
    if status.st_uid not in (0, os.geteuid()):
        problem = "belongs to user %d" % status.st_uid
    elif stat.S_ISLNK(status.st_mode) or status.st_mode & stat.S_ISVTX:
        return  # in a sticky directory everybody's things are their own
    elif status.st_mode & stat.S_IWOTH:
        problem = "can be written to by others (mode %03o)" % (status.st_mode & 0o777)
    elif status.st_mode & stat.S_IWGRP and not _is_private(status.st_gid):
        problem = "can be written to by group %d (mode %03o)" % (
            status.st_gid,
            status.st_mode & 0o777,
        )
    else:
        return
    words = "%s cannot be trusted: somebody else could put another one in its place, since %s %s"
    raise Refused(
        "no-state",
        words % (os.fsdecode(path), os.fsdecode(parent), problem),
        hint="chmod go-w %s, or %s" % (os.fsdecode(parent), _HINT),
    )


def _is_private(gid: int) -> bool:
    """Whether we are the only member of the group: many systems give each account one, and let it
    write what the account makes."""
    try:
        import grp
        import pwd

        group, account = grp.getgrgid(gid), pwd.getpwuid(os.geteuid())
    except (ImportError, KeyError, OSError):
        return False
    mine = account.pw_name
    return gid == account.pw_gid and group.gr_name == mine and set(group.gr_mem) <= {mine}


def open_directory(name: bytes, dir_fd: int | None, path: bytes) -> int:
    """A descriptor of a directory that is ours alone; ``path`` is what refusals call it.

    Raises Refused where it is no directory, a link, another account's, or open to others'
    writing; without ``dir_fd`` also where what is above it is. FileNotFoundError and OSErrors pass
    through.
    """
    if dir_fd is None:
        check_parents(name)
    try:
        fd = os.open(name, _OPEN, dir_fd=dir_fd)
    except NotADirectoryError:
        raise refused("%s is a link, or not a directory" % os.fsdecode(path)) from None
    except OSError as exc:
        import errno

        if exc.errno != errno.ELOOP:
            raise
        raise refused("%s is a link" % os.fsdecode(path)) from None
    status = os.fstat(fd)
    problem = None
    if status.st_uid != os.geteuid():
        problem = "belongs to user %d, not to us" % status.st_uid
    elif status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        problem = "can be written to by others (mode %03o)" % (status.st_mode & 0o777)
    if problem:
        os.close(fd)
        raise refused("%s %s" % (os.fsdecode(path), problem))
    return fd


def remove_flat(path: bytes) -> None:
    """Removes a directory of ours and the files in it, as far as it is there. Follows no link,
    enters no directory; what cannot be removed stays, and so does its directory."""
    try:
        fd = open_directory(path, None, path)
    except (OSError, Refused):
        return
    try:
        for name in os.listdir(fd):
            try:
                os.unlink(name, dir_fd=fd)
            except OSError as exc:
                if exc.errno not in (errno.EISDIR, errno.EPERM, errno.ENOENT):
                    raise
    except OSError:
        pass
    finally:
        os.close(fd)
    try:
        os.rmdir(path)
    except OSError:
        pass
