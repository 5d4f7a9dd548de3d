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

# A named tuple, or what C has like one: a struct that is a sequence, too.
TUPLE_STRUCT = 29

NUMPY_ARRAY = 40
NUMPY_SCALAR = 41
PANDAS_FRAME = 42
PANDAS_SERIES = 43
PANDAS_INDEX = 44
ARROW = 45
# One moment, span, period, interval or missing value of pandas'.
PANDAS_SCALAR = 46

# An item takes up so many bytes of memory at most, its place in a list or dict included; those
# below take so many times more. Measured on Python 3.11, with pandas 3 and pyarrow 26.
ITEM_MEMORY = 80
WEIGHT = {
    SET: 2,
    FROZENSET: 2,
    DATETIME: 2,
    TIME: 2,
    DECIMAL: 1,
    UUID: 1,
    POSIX_PATH: 2,
    WINDOWS_PATH: 2,
    STRUCT: 3,
    TUPLE_STRUCT: 4,
    ORDERED_DICT: 3,
    DEFAULT_DICT: 1,
    COUNTER: 1,
    DEQUE: 9,
    ARRAY: 1,
    NUMPY_ARRAY: 8,
    PANDAS_FRAME: 32,
    PANDAS_SERIES: 16,
    PANDAS_INDEX: 8,
    PANDAS_SCALAR: 4,
    ARROW: 16,
}

COMPLEX_FORM = struct.Struct(">dd")
DATE_FORM = struct.Struct(">HBB")
TIME_FORM = struct.Struct(">BBBIB")  # hour, minute, second, microsecond, fold
TIMEDELTA_FORM = struct.Struct(">iII")  # days, seconds, microseconds
