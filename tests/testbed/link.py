"""A network link to an sshd that can be cut: two network namespaces and a cable between them.

The addresses stand in the namespaces only. A client reaches the server by ``Link.config``, from
wherever it runs: ssh's connection itself is opened inside.
"""

import os
import shlex
import sys
from itertools import count
from pathlib import Path

from testbed import dial, needs, run
from testbed.sshd import Sshd

CLIENT, SERVER = "10.77.0.1", "10.77.0.2"
_PORT = 22
_END = "cable"
_ESTABLISHED = ["state", "established", "dst", SERVER]
_serial = count(1)


class Link:
    """A healthy link at first. ``sshd`` is the server at its far end."""

    def __init__(self, directory: Path) -> None:
        self._ip = needs.tool("ip")
        self._iptables = needs.tool("iptables")
        self._ss = needs.tool("ss")
        stem = f"remit-testbed-{os.getpid()}-{next(_serial)}"
        self._near, self._far = f"{stem}a", f"{stem}b"
        try:
            self._lay()
            dialler = [*_inside(self._near), sys.executable, "-I", "-S", dial.__file__]
            ends_with_ssh = ["setpriv", "--pdeathsig", "KILL", "--"]
            proxy = shlex.join([*ends_with_ssh, *dialler]).replace("%", "%%")
            self.sshd = Sshd(
                directory,
                address=SERVER,
                port=_PORT,
                within=_inside(self._far),
                client_options=[f"ProxyCommand {proxy} %h %p", "ProxyUseFdpass yes"],
            )
        except BaseException:
            self._remove()
            raise

    @property
    def config(self) -> Path:
        """The ssh_config: ``ssh:alice?config=CONFIG`` goes over the link."""
        return self.sshd.config

    def cut(self) -> None:
        """Pull the cable: nothing passes, nobody is told."""
        run.command([self._ip, "-n", self._far, "link", "set", _END, "down"])

    def blackhole(self) -> None:
        """The cable stays and packets vanish, both ways."""
        self._near_rule("-A", "OUTPUT", "-p", "tcp", "--dport", str(_PORT), "-j", "DROP")
        self._near_rule("-A", "INPUT", "-p", "tcp", "--sport", str(_PORT), "-j", "DROP")

    def reset(self) -> None:
        """Break the connections there are, and tell both ends at once. New ones can be made."""
        before = self._connections()
        run.command([*_inside(self._near), self._ss, "--kill", "--tcp", *_ESTABLISHED])
        # A client may have come back meanwhile, over a connection of its own.
        left = before & self._connections()
        if left:
            raise RuntimeError(f"this kernel does not close sockets for ss: {left}")

    def _connections(self) -> set[str]:
        """The near ends of the connections there are."""
        listed = run.command(
            [*_inside(self._near), self._ss, "--no-header", "--tcp", *_ESTABLISHED]
        )
        return {line.split()[2] for line in listed.splitlines()}

    def heal(self) -> None:
        """Undo ``cut`` and ``blackhole``."""
        run.command([self._ip, "-n", self._far, "link", "set", _END, "up"])
        self._near_rule("-F")

    def close(self) -> None:
        self.sshd.close()
        self._remove()

    def _lay(self) -> None:
        for namespace in (self._near, self._far):
            run.command([self._ip, "netns", "add", namespace])
        ends = [_END, "netns", self._near, "type", "veth", "peer", "name", _END]
        run.command([self._ip, "link", "add", *ends, "netns", self._far])
        for namespace, address in ((self._near, CLIENT), (self._far, SERVER)):
            ip = [self._ip, "-n", namespace]
            run.command([*ip, "address", "add", f"{address}/24", "dev", _END])
            run.command([*ip, "link", "set", _END, "up"])
            run.command([*ip, "link", "set", "lo", "up"])

    def _near_rule(self, *words: str) -> None:
        run.command([*_inside(self._near), self._iptables, *words])

    def _remove(self) -> None:
        for namespace in (self._near, self._far):
            if (run.NAMESPACE_DIRECTORY / namespace).exists():
                run.command([self._ip, "netns", "del", namespace])


def _inside(namespace: str) -> list[str]:
    # Not `ip netns exec`, which gives a mount namespace of its own as well.
    return ["nsenter", f"--net={run.NAMESPACE_DIRECTORY / namespace}", "--"]
