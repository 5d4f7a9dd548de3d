"""Where a connection for many commands is to be found: OpenSSH's ControlMaster, in a directory of
the account's own, named for all that leads to the host."""

from __future__ import annotations

import hashlib
import os
import pwd
import socket
import stat
import subprocess
from collections.abc import Sequence
from contextlib import suppress

import attrs

# A unix socket's name holds 107 bytes, and ssh makes it under a longer one: a dot and 16 letters.
_LONGEST = 107 - 17
# Seconds that ssh may take to read its configuration, which may run programs (Match exec).
_PATIENCE = 5.0
# ssh notices within three of these that nobody is there. Where the configuration says nothing a
# connection that is kept would wait for TCP: minutes, for all who come meanwhile.
_KEEPALIVE = 15
_SYSTEM = "/etc/ssh/ssh_config"


class NotReused(Exception):
    """Why no connection is reused: for people."""


@attrs.frozen
class Reuse:
    """``path``: the socket of the connection, where there is one. ``words``: what has ssh use it,
    and make it. ``own``: they are ours, not those of the account's own ssh_config."""

    path: str
    words: Sequence[str]
    own: bool = True

    @property
    def stands(self) -> bool:
        """Whether somebody made it, and it did not end in an orderly way since."""
        try:
            return stat.S_ISSOCK(os.stat(self.path).st_mode)
        except OSError:
            return False


def find(program: str, way: Sequence[str], config: str | None, host: str, persist: str) -> Reuse:
    """How connections to ``host`` are reused. ``way``: the words that lead there, but for
    ``config``, which is None for the usual files; ``persist``: for how long, as ssh writes it.

    Raises NotReused. Runs ``ssh -G``, which connects nowhere.
    """
    directory = own_directory()
    ours = os.path.join(directory, "%remit")
    effective = _effective(program, way, config, host, ours.replace("%", "%%"))
    values = dict(line.partition(" ")[::2] for line in effective)
    path = values.get("controlpath", "none")
    if path in ("none", ""):
        raise NotReused("its ssh_config says ControlPath none")
    if values.get("controlmaster") in (None, "no", "false"):
        raise NotReused("its ssh_config says ControlMaster no")
    if path not in (ours, ours.replace("%", "%%")):
        return Reuse(os.path.expanduser(path), (), own=False)
    said = [line for line in effective if not line.startswith("control")]
    name = hashlib.sha256("\n".join([host, *said]).encode()).hexdigest()[:20]
    path = os.path.join(directory, name)
    if len(os.fsencode(path)) > _LONGEST:
        raise NotReused(f"{directory} is too long for the name of a socket")
    _try_socket(directory)
    words = ["-o", "ControlMaster=auto", "-o", f"ControlPath={path.replace('%', '%%')}"]
    words += ["-o", f"ControlPersist={persist}"]
    if values.get("serveraliveinterval", "0") == "0":
        words += ["-o", f"ServerAliveInterval={_KEEPALIVE}", "-o", "ServerAliveCountMax=3"]
    return Reuse(path, words)


def _effective(
    program: str, way: Sequence[str], config: str | None, host: str, path: str
) -> list[str]:
    """The lines of ``ssh -G``, with ours behind all that the account's own files say: in ssh_config
    the first word counts."""
    home = pwd.getpwuid(os.getuid()).pw_dir
    files = [os.path.join(home, ".ssh/config"), _SYSTEM] if config is None else [config]
    lines = [f'Host *\nInclude "{file}"' for file in files if os.path.exists(file)]
    lines.append(f'Host *\nControlMaster auto\nControlPath "{path}"\nControlPersist 60\n')
    try:
        done = subprocess.run(
            [program, "-T", "-G", "-F", "/dev/stdin", *way, "--", host],
            input="\n".join(lines).encode("utf-8", "surrogateescape"),
            capture_output=True,
            timeout=_PATIENCE,
            start_new_session=True,
        )
    except subprocess.TimeoutExpired:
        raise NotReused(f"`ssh -G {host}` took longer than {_PATIENCE:g} s") from None
    except OSError as exc:
        raise NotReused(f"{program} cannot be started: {exc.strerror}") from None
    if done.returncode:
        raise NotReused(f"`ssh -G {host}` ended with status {done.returncode}")
    return done.stdout.decode("utf-8", "surrogateescape").splitlines()


def own_directory() -> str:
    """A directory that nobody else may write or look into: in the account's runtime directory, else
    in /tmp. It is made where it is missing. Raises NotReused."""
    uid = os.getuid()
    problem = "there is no runtime directory"
    for base in filter(None, (os.environ.get("XDG_RUNTIME_DIR"), f"/run/user/{uid}")):
        try:
            found = os.stat(base)
        except OSError:
            continue
        if not os.path.isabs(base) or found.st_uid != uid or found.st_mode & 0o022:
            problem = f"{base} is not this account's alone"
            continue
        with suppress(OSError, NotReused):
            return _private(os.path.join(base, "remit"))
    try:
        return _private(f"/tmp/remit-{uid}")  # as tmux has it: never followed, never another's
    except (OSError, NotReused) as exc:
        raise NotReused(f"{problem}, and {exc}") from None


def _private(path: str) -> str:
    with suppress(FileExistsError):
        os.mkdir(path, 0o700)
    found = os.lstat(path)
    mine = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
    if not mine or found.st_mode & 0o077:
        raise NotReused(f"{path} is not this account's alone")
    return path


def _try_socket(directory: str) -> None:
    """ssh gives up altogether where it can make no socket: not all file systems have them."""
    path = os.path.join(directory, f".{os.getpid()}")
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.bind(path)
        except OSError as exc:
            raise NotReused(f"no socket can be made in {directory}: {exc.strerror}") from None
        finally:
            with suppress(OSError):
                os.unlink(path)
