"""An OpenSSH server with keys of its own, and the ssh_config that leads to it."""

import pwd
import socket
from collections.abc import Sequence
from itertools import count
from pathlib import Path

from testbed import needs, processes, run
from testbed.accounts import ACCOUNTS

_SERVER = """\
ListenAddress {address}
Port {port}
HostKey {host_key}
AuthorizedKeysFile {authorized}/%u
PidFile none
StrictModes no
UsePAM no
UseDNS no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin no
MaxStartups 200
MaxSessions 200
PrintMotd no
LogLevel VERBOSE
Subsystem sftp internal-sftp
"""
_CLIENT = """\
Host {name}
{options}  HostName {address}
  Port {port}
  User {account}
  IdentityFile {key}
  IdentitiesOnly yes
  IdentityAgent none
  UserKnownHostsFile {known_hosts}
  GlobalKnownHostsFile /dev/null
  StrictHostKeyChecking yes
"""


class Sshd:
    """``ssh:alice?config=CONFIG`` is a target for it; so are ``bob`` and ``quiet``."""

    def __init__(
        self,
        directory: Path,
        *,
        address: str = "127.0.0.1",
        port: int | None = None,
        within: Sequence[str] = (),
        client_options: Sequence[str] = (),
    ) -> None:
        """``within`` is a command that runs another, ``client_options`` are lines of ssh_config."""
        directory.mkdir(mode=0o755)
        self.address = address
        self.port = free_port(address) if port is None else port
        self.host_key = _new_key(directory / "host_key")
        self.key = _new_key(directory / "key")
        self.config = directory / "ssh_config"
        self.known_hosts = directory / "known_hosts"
        self.log = directory / "sshd.log"
        self._argv: list[str | Path] = [
            *within,
            needs.tool("sshd"),
            "-D",
            "-f",
            directory / "sshd_config",
        ]
        self._daemon: run.Daemon | None = None
        self._orphans: list[int] = []
        self._serial = count(1)
        self._write(directory, client_options)
        self.start()

    def block(self, name: str, account: str, *options: str) -> str:
        """A block of ssh_config that leads here under that name, ``account`` by its name in
        `ACCOUNTS`. What ``options`` say comes first, and so prevails."""
        return _CLIENT.format(
            name=name,
            options="".join(f"  {option}\n" for option in options),
            address=self.address,
            port=self.port,
            account=ACCOUNTS[account][0],
            key=self.key,
            known_hosts=self.known_hosts,
        )

    def config_with(self, *options: str) -> Path:
        """Another ssh_config: these lines (``LogLevel QUIET``), then all that is in this one."""
        path = self.config.with_name(f"ssh_config_{next(self._serial)}")
        lines = "".join(f"{option}\n" for option in options)
        path.write_text(f"{lines}Include {self.config}\n")
        return path

    def start(self) -> None:
        begin = self.log.stat().st_size if self.log.exists() else 0
        self._daemon = run.Daemon([*self._argv, "-E", self.log], self.log)

        def listens() -> bool:
            return b"Server listening on" in self.log.read_bytes()[begin:]

        self._daemon.wait_ready(listens)

    def stop(self) -> None:
        """Close the port. Sessions go on, as they do for a real sshd."""
        if self._daemon:
            self._orphans += [p.pid for p in processes.everyone() if p.parent == self._daemon.pid]
            self._daemon.stop()
            self._daemon = None

    def restart(self) -> None:
        """On the same port. Sessions go on."""
        self.stop()
        self.start()

    def session_pids(self, account: str | None = None) -> list[int]:
        """The ``sshd: ACCOUNT@notty`` processes, by name in the ssh_config; kill one to break it.

        They run as the account and hold its connection. None stands for all accounts.
        """
        names = list(ACCOUNTS) if account is None else [account]
        uids = {pwd.getpwnam(ACCOUNTS[name][0]).pw_uid for name in names}
        roots = [*self._orphans, *([self._daemon.pid] if self._daemon else [])]
        return [
            process.pid
            for process in processes.descendants(roots)
            if process.uid in uids and process.name.startswith("sshd")
        ]

    def close(self) -> None:
        """Stop it and break every session."""
        self.stop()
        processes.kill(self.session_pids())

    def _write(self, directory: Path, client_options: Sequence[str]) -> None:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        authorized = directory / "authorized"
        authorized.mkdir(mode=0o755)
        for account, _ in ACCOUNTS.values():
            path = authorized / account
            path.write_bytes(self.key.with_suffix(".pub").read_bytes())
            path.chmod(0o644)
        server = directory / "sshd_config"
        server.write_text(
            _SERVER.format(
                address=self.address, port=self.port, host_key=self.host_key, authorized=authorized
            )
        )
        # sshd 9.8 and later shuts an address out after a few refused logins; older ones do not know
        # the word.
        penalties = "PerSourcePenalties no"
        try:
            run.command([needs.tool("sshd"), "-t", "-f", server, "-o", penalties])
        except RuntimeError:
            pass
        else:
            server.write_text(f"{server.read_text()}{penalties}\n")
        public = self.host_key.with_suffix(".pub").read_text()
        host = self.address if self.port == 22 else f"[{self.address}]:{self.port}"
        self.known_hosts.write_text(f"{host} {public}")
        blocks = [self.block(name, name, *client_options) for name in ACCOUNTS]
        self.config.write_text("".join(blocks))


def _new_key(path: Path) -> Path:
    keygen = [needs.tool("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-C", "remit testbed"]
    run.command([*keygen, "-f", path])
    return path


def free_port(address: str) -> int:
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])
