"""Which interpreters a test of a terminal runs on.

A session costs a second or so, hence most run on the oldest and the newest only; `every_python`
marks those that try what can differ from one version to the next.
"""

import pytest

from testbed import pythons

_FOUND = pythons.found()
ENDS = _FOUND if len(_FOUND) == 1 else [_FOUND[0], _FOUND[-1]]


def name(interpreter: pythons.Interpreter) -> str:
    return interpreter.version


every_python = pytest.mark.parametrize("python", _FOUND, ids=name, indirect=True)
