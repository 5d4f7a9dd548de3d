"""The ordinary accounts that sshd lets in. They are made once and stay on the machine.

Runs at the same time share them. The first to come and the last to go leaves them clean: no
process, no state of remit's.
"""

import fcntl
import os
import pwd
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from testbed import needs, processes, run

# What the noisy accounts print before the output of every command. The second line is no UTF-8.
NOISE = b"*** this account greets every command ***\n\xff\xfe\x80 \xe9t\xe9\n"
_IN_OCTAL = "".join(rf"\{byte:03o}" for byte in NOISE)
_NOISY_RC = f"printf '{_IN_OCTAL}'\nread -t 0.05 x\n"

# Name in the ssh_config: (account, its ~/.bashrc)
ACCOUNTS = {
    "alice": ("remit_alice", _NOISY_RC),
    "bob": ("remit_bob", _NOISY_RC),
    "quiet": ("remit_quiet", ""),
}
_LOCK = Path("/run/lock/remit-testbed")


@contextmanager
def held() -> Iterator[None]:
    """The accounts are there meanwhile."""
    with _LOCK.open("ab") as lock:
        if _alone(lock.fileno()):
            _clean()
        fcntl.flock(lock, fcntl.LOCK_SH)
        for account, rc in ACCOUNTS.values():
            _make(account, rc)
        try:
            yield
        finally:
            if _alone(lock.fileno()):
                _clean()


# What `sudo` lets them do, and nothing else without a password.
SUDOERS = Path("/etc/sudoers.d/remit-testbed")
_RULE = "{alice} ALL=({bob}) NOPASSWD: ALL\n"


def allow_sudo() -> None:
    """Alice may run all as bob. The rule stays, as the accounts do."""
    needs.tool("sudo")
    rule = _RULE.format(alice=ACCOUNTS["alice"][0], bob=ACCOUNTS["bob"][0])
    if not SUDOERS.exists() or SUDOERS.read_text() != rule:
        # A name with a dot in it is none that sudo reads.
        fresh = SUDOERS.with_name(f"remit-testbed.{os.getpid()}")
        fresh.write_text(rule)
        fresh.chmod(0o440)
        fresh.rename(SUDOERS)


def _alone(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _clean() -> None:
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    for entry in (known[account] for account, _ in ACCOUNTS.values() if account in known):
        while pids := [p.pid for p in processes.everyone() if p.uid == entry.pw_uid]:
            processes.kill(pids)
        shutil.rmtree(Path(entry.pw_dir) / ".local", ignore_errors=True)


def _make(account: str, rc: str) -> None:
    def there() -> bool:
        try:
            pwd.getpwnam(account)
        except KeyError:
            return False
        return True

    if not there():
        # The password "*" fits nothing, yet does not lock the account as useradd's own "!" would.
        useradd = [needs.tool("useradd"), "--create-home", "--shell", "/bin/bash", "-p", "*"]
        try:
            run.command([*useradd, account])
        except RuntimeError:
            # Another run may be making it just now: it holds the lock on /etc/passwd.
            run.wait_until(there, f"the account {account}", timeout=10.0)
    entry = pwd.getpwnam(account)
    fresh = Path(entry.pw_dir) / f".bashrc.{os.getpid()}"
    fresh.write_text(rc)
    os.chown(fresh, entry.pw_uid, entry.pw_gid)
    fresh.rename(fresh.with_name(".bashrc"))
