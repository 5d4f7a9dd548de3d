"""What the testbed needs from the machine, and what is said where it is not there."""

import os
import shutil
from typing import NoReturn

import pytest

_SEARCH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])

left_out: list[str] = []


def missing(reason: str) -> NoReturn:
    """Skip the test for this reason; where ``CI=true``, fail it: there nothing may be left out."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"the testbed is not whole: {reason}", pytrace=False)
    if reason not in left_out:
        left_out.append(reason)
    pytest.skip(reason)


def root(what: str) -> None:
    """``what`` starts the sentence: "sshd for other accounts"."""
    if os.geteuid() != 0:
        missing(f"{what} needs root")


def tool(name: str) -> str:
    """The absolute path of the program, looked for in the sbin directories too."""
    path = shutil.which(name, path=_SEARCH)
    return path or missing(f"the program {name} is not installed")
