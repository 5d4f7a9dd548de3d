"""What a process holds in memory, by the kernel's account: proc_pid_smaps(5). Bytes."""

from pathlib import Path


def private(pid: int) -> int:
    """What would be free if it ended."""
    return _field(pid, "Private_Clean") + _field(pid, "Private_Dirty")


def resident(pid: int) -> int:
    return _field(pid, "Rss")


def _field(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise LookupError(name)
