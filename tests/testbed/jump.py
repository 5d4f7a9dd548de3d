"""A jump host: an sshd that leads on to another, and names for it that do not."""

from pathlib import Path

from testbed.accounts import ACCOUNTS
from testbed.sshd import Sshd, free_port

# Who logs in to the jump host.
_PASSES = "quiet"
# What keeps a jump host from leading on: (its name in the ssh_config, what is said of it there).
BROKEN = {
    "absent": "HostName no-such-host.invalid",
    "closed": "Port {closed}",
    "refusing": "User root",  # who may not log in there
    "unknown": "UserKnownHostsFile /dev/null",  # its key is
}


class Jump:
    """``ssh:alice?config=CONFIG`` goes to ``server`` through ``hop``; so do bob and quiet.

    A word of `BROKEN` before it (``ssh:absent-alice?…``) gives it a jump host that fails in that
    way, before the target is asked for anything.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o755)
        self.hop = Sshd(directory / "hop")
        self.server = Sshd(directory / "server")
        self.config = directory / "ssh_config"
        hops = {"hop": list[str]()}
        for word, option in BROKEN.items():
            hops[f"hop-{word}"] = [option.format(closed=free_port(self.hop.address))]
        blocks = [self.hop.block(name, _PASSES, *options) for name, options in hops.items()]
        for name in ACCOUNTS:
            blocks.append(self.server.block(name, name, "ProxyJump hop"))
            blocks += [
                self.server.block(f"{word}-{name}", name, f"ProxyJump hop-{word}")
                for word in BROKEN
            ]
        self.config.write_text("".join(blocks))

    def close(self) -> None:
        self.server.close()
        self.hop.close()
