"""How a process runs beside its words: with which mask, niceness and limits. A job that is started
in a shell gets the shell's, as anything else that is started there. Standard library only,
Python 3.6.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

try:
    import resource
except ImportError:  # python3-minimal
    resource = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from typing import Any

    # {"whole": bool, "umask": int, "nice": int, "limits": {name: [soft, hard]}}; ``whole`` is
    # whether the environment that is sent is all of it. What is missing stays as it is.
    Manner = dict[str, Any]

_LIMIT = "RLIMIT_"
_LARGEST_UMASK = 0o777


def own() -> Manner:
    """That of this process."""
    umask = os.umask(0o077)
    os.umask(umask)
    limits = {}
    for name in dir(resource):
        if name.startswith(_LIMIT):
            limits[name] = list(resource.getrlimit(getattr(resource, name)))
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    return {"whole": True, "umask": umask, "nice": nice, "limits": limits}


def adopt(manner: Manner) -> None:
    """Makes it this process's, as far as this account may."""
    if "umask" in manner:
        os.umask(manner["umask"] & _LARGEST_UMASK)
    try:
        if "nice" in manner:
            os.setpriority(os.PRIO_PROCESS, 0, manner["nice"])
    except OSError:
        pass  # only root can be less nice than before
    for name, (soft, hard) in manner.get("limits", {}).items():
        number = getattr(resource, str(name), None) if str(name).startswith(_LIMIT) else None
        try:
            if number is not None:
                resource.setrlimit(number, (soft, hard))
        except (OSError, ValueError):
            pass  # nor can a limit be raised again
