"""Values of every type that travels as data, as expressions: each Python makes them itself.

Runs on Python 3.6, too, without its annotations. ``encode`` prints the encoding of each, a line
each; any other word is the name under which the writer of such lines on stdin had this module, and
prints which came back otherwise.
"""

from __future__ import annotations

import array
import base64
import collections
import datetime
import decimal
import enum
import fractions
import pathlib
import sys
import uuid
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

Point = collections.namedtuple("Point", "x y")
UTC = datetime.timezone.utc
CET = datetime.timezone(datetime.timedelta(hours=1), "CET")
D = decimal.Decimal


class Colour(enum.Enum):
    RED = 1


class Access(enum.IntFlag):
    READ = 1
    WRITE = 2


# What comes back equal and of the same type.
SAME = """\
None
True
False
0
127
128
-1
-32
-33
255
256
65535
65536
2**32 - 1
2**32
2**63 - 1
2**64 - 1
-(2**63)
2**64
-(2**63) - 1
10**400
-(10**400)
0.0
-0.0
1.5
5e-324
float("inf")
float("-inf")
float("nan")
""
"a"
"a" * 31
"a" * 32
"a" * 300
"a" * 70000
"caf\\u00e9 \\u4e2d \\U0001f600"
"\\ud800 alone"
"\\0"
b""
b"a\\xff"
b"a" * 300
b"a" * 70000
bytearray(b"abc")
bytearray(70000)
1 + 2j
complex("nan-infj")
()
(1,)
((), ((),))
[]
[1, "a", None, [2.5]]
[0] * 15
list(range(16))
list(range(-200, 200))
[2**31 - 1, -(2**31)] * 10
[2**63 - 1, -(2**63)] * 10
[2**64] * 20
[True] * 20
[1.5, float("inf")] * 10
[None] * 20
["a", "", "caf\\u00e9", "\\U0001f600"] * 8
["a" * 300] * 20
["\\ud800"] * 20
tuple(range(100))
{}
{"b": 1, "a": 2}
{1: "a", (2, 3): "b", None: [], b"x": {}, 1.5: 0, frozenset([1]): 1, D("7.5"): 1}
{i: str(i) for i in range(1000)}
set()
{1, "a", (2,), None}
set(range(100))
frozenset()
frozenset([1, frozenset([2])])
[frozenset(), frozenset(), (), ()]
collections.OrderedDict([("b", 1), ("a", [2])])
collections.defaultdict(list, {"a": [1]})
collections.defaultdict(None, {"a": 1})
collections.Counter("abracadabra")
collections.deque([1, [2]])
collections.deque([1, 2], 5)
collections.deque([], 0)
range(0)
range(1, 10, 3)
range(2**70, 0, -(2**69))
slice(None)
slice(1, "a", (2,))
array.array("b", [-1, 1])
array.array("H", [1, 65535])
array.array("q", range(10000))
array.array("f", [1.5])
array.array("d")
datetime.date(1, 1, 1)
datetime.date(9999, 12, 31)
datetime.datetime(1, 1, 1)
datetime.datetime(9999, 12, 31, 23, 59, 59, 999999)
datetime.datetime(2024, 10, 27, 2, 30, fold=1)
datetime.datetime(2024, 2, 29, 12, 0, tzinfo=UTC)
datetime.datetime(2024, 2, 29, 12, 0, tzinfo=CET)
datetime.datetime(1, 1, 1, tzinfo=datetime.timezone(datetime.timedelta(hours=23, minutes=59)))
datetime.time(0)
datetime.time(23, 59, 59, 999999, fold=1)
datetime.time(12, 30, tzinfo=CET)
datetime.timedelta(0)
datetime.timedelta(-1, 1, 1)
datetime.timedelta.min
datetime.timedelta.max
D("0")
D("-0")
D("1.10")
D("-1.5E+300")
D("1E-999999")
D("Infinity")
D("-Infinity")
D("NaN")
D("-NaN12")
D("sNaN")
D("sNaN7")
D(10) ** 27
fractions.Fraction(0)
fractions.Fraction(-3, 7)
fractions.Fraction(2**100, 3**50)
uuid.UUID(int=0)
uuid.UUID("12345678-1234-5678-1234-567812345678")
pathlib.PurePosixPath("/a/../b c")
pathlib.PurePosixPath("//a")
pathlib.PurePosixPath("")
pathlib.PurePosixPath("\\udcff")
pathlib.PureWindowsPath("C:\\\\a\\\\b")
pathlib.PureWindowsPath("\\\\\\\\server\\\\share\\\\a")
""".splitlines()

# An expression, and one for what comes back; names of classes as this file's own.
OTHER = [
    ("memoryview(b'abc')[1:]", "b'bc'"),
    ("memoryview(b'abcdef')[::2]", "b'ace'"),
    ("memoryview(array.array('H', [1, 2]))", "array.array('H', [1, 2]).tobytes()"),
    ("pathlib.PosixPath('/etc')", "pathlib.PurePosixPath('/etc')"),
    ("Point(1, [2])", "Struct(HERE + '.Point', {'x': 1, 'y': [2]})"),
    ("Colour.RED", "EnumMember(HERE + '.Colour', 'RED', 1)"),
    ("Access.READ", "EnumMember(HERE + '.Access', 'READ', 1)"),
    ("[Point(1, 2)] * 2", "[Struct(HERE + '.Point', {'x': 1, 'y': 2})] * 2"),
    ("Struct('a.B', {'x': 1})", "Struct('a.B', {'x': 1})"),
    ("EnumMember('a.B', None, (1,))", "EnumMember('a.B', None, (1,))"),
    ("{Point(1, 2): 1}", "{Struct(HERE + '.Point', {'x': 1, 'y': 2}): 1}"),
    ("ValueError('no', 1)", "ExceptionRecord('ValueError', \"('no', 1)\", SHORT)"),
]
EXPECTED = dict([(text, text) for text in SAME] + OTHER)


def make(text: str, here: str) -> Any:
    """The value of an expression. ``here`` is the module that the encoder ran this file as."""
    from remit._values.placeholders import EnumMember, ExceptionRecord, Struct

    records = {"EnumMember": EnumMember, "ExceptionRecord": ExceptionRecord, "Struct": Struct}
    names = dict(globals(), HERE=here, SHORT="ValueError: ('no', 1)\n", **records)
    return eval(text, names)


def alike(value: Any, other: Any) -> bool:
    """Equal in value and type, all the way down; a NaN is like a NaN."""
    if type(value) is not type(other):
        return False
    if isinstance(value, (list, tuple, collections.deque)):
        most = [getattr(each, "maxlen", None) for each in (value, other)]
        pairs = zip(value, other)
        return len(value) == len(other) and most[0] == most[1] and all(alike(*p) for p in pairs)
    if isinstance(value, dict):
        makes = [getattr(each, "default_factory", None) for each in (value, other)]
        same_order = alike(list(value), list(other))
        return same_order and makes[0] is makes[1] and alike(*map(_values_of, (value, other)))
    if isinstance(value, (set, frozenset)):
        kinds = [sorted(str(type(item)) for item in each) for each in (value, other)]
        return bool(value == other) and kinds[0] == kinds[1]
    if isinstance(value, (float, complex, decimal.Decimal)):
        return repr(value) == repr(other)
    if isinstance(value, array.array):
        return bool(value.typecode == other.typecode and value == other)
    if hasattr(value, "type_name"):
        return alike(value.__reduce__()[1], other.__reduce__()[1])
    if isinstance(value, (datetime.datetime, datetime.time)):
        # Names of zones are not compared by ==.
        return bool(value == other) and repr(value) == repr(other)
    return bool(value == other)


def _values_of(table: dict[Any, Any]) -> list[Any]:
    return list(table.values())


def main(verb: str) -> None:
    from remit._values import codec

    if verb == "encode":
        for text in EXPECTED:
            data = b"".join(codec.encode(make(text, "__main__")))
            print(base64.b64encode(data).decode("ascii"))
        return
    for text, line in zip(EXPECTED, sys.stdin):
        value = codec.decode(base64.b64decode(line))
        if not alike(value, make(EXPECTED[text], verb)):
            print(ascii(text), "came back as", repr(value))


if __name__ == "__main__":
    main(sys.argv[1])
