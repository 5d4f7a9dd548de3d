"""The extension types of a value's encoding, and the shapes of their heads: docs/values.md.

Standard library only, Python 3.6: both ends of a session use it.
"""

from __future__ import annotations

import struct

TUPLE = 1
SET = 2
FROZENSET = 3
BYTEARRAY = 4
COMPLEX = 5
BIG_INT = 6
# A str with surrogates, which UTF-8 has no word for.
ODD_STR = 7
DATETIME = 8
DATE = 9
TIME = 10
TIMEDELTA = 11
DECIMAL = 12
FRACTION = 13
UUID = 14
POSIX_PATH = 15
WINDOWS_PATH = 16
ENUM = 17
STRUCT = 18
EXCEPTION = 19
RANGE = 20
SLICE = 21
ORDERED_DICT = 22
DEFAULT_DICT = 23
COUNTER = 24
DEQUE = 25
ARRAY = 26
# Lists of nothing but int, float or str, in one piece.
NUMBERS = 27
STRINGS = 28

NUMPY_ARRAY = 40
NUMPY_SCALAR = 41
PANDAS_FRAME = 42
PANDAS_SERIES = 43
PANDAS_INDEX = 44
ARROW = 45

COMPLEX_FORM = struct.Struct(">dd")
DATE_FORM = struct.Struct(">HBB")
TIME_FORM = struct.Struct(">BBBIB")  # hour, minute, second, microsecond, fold
TIMEDELTA_FORM = struct.Struct(">iII")  # days, seconds, microseconds
