"""Targets: ``scheme:address?options``, taken apart and checked."""

from collections.abc import Collection, Sequence
from contextlib import AbstractAsyncContextManager

import attrs
import pytest

from remit import TargetError
from remit._hookspecs import hookimpl
from remit._plugins import Plugins
from remit._target import parse_target, via
from remit.abc import ByteStream, Target, Transport


@attrs.frozen
class Plain:
    scheme: str = "plain"
    api: int = 1

    def open(self, target: Target, argv: Sequence[str]) -> AbstractAsyncContextManager[ByteStream]:
        raise AssertionError("parsing starts nothing")


@attrs.frozen
class Able(Plain):
    scheme: str = "able"
    bare_words: bool = True
    option_names: Collection[str] = ("config",)

    def check(self, target: Target) -> None:
        if target.address == "never":
            raise TargetError(f"{target} is never right")


@attrs.frozen
class Raw(Plain):
    scheme: str = "raw"
    raw_address: bool = True


def plugins(*transports: Transport) -> Plugins:
    class Plugin:
        @hookimpl
        def remit_transports(self) -> list[Transport]:
            return list(transports)

    made = Plugins([])
    made.add(Plugin(), "test")
    return made


ALL = plugins(Plain(), Able(), Raw())


@pytest.mark.parametrize(
    ("text", "scheme", "address", "options"),
    [
        ("plain:", "plain", "", {}),
        ("plain:name", "plain", "name", {}),
        ("plain://name/", "plain", "name", {}),
        ("plain://me@[::1]:22", "plain", "me@[::1]:22", {}),
        ("plain:a:b", "plain", "a:b", {}),
        ("server01", "able", "server01", {}),
        ("me@server01:22", "able", "me@server01:22", {}),
        ("[::1]:22", "able", "[::1]:22", {}),
        ("server01?config=/x", "able", "server01", {"config": "/x"}),
        ("able:h?python=/p&state=/s", "able", "h", {"python": "/p", "state": "/s"}),
        ("plain:n?python=a%20b%26c", "plain", "n", {"python": "a b&c"}),
        ("plain:n?python=g++", "plain", "n", {"python": "g++"}),
        ("plain:n?python=a=b", "plain", "n", {"python": "a=b"}),
        ("plain:n?python=a%ffb", "plain", "n", {"python": "a\udcffb"}),
        ("plain:n?", "plain", "n", {}),
        ("raw:a b?c=d", "raw", "a b?c=d", {}),
        ("raw://usr/bin/x /", "raw", "//usr/bin/x /", {}),
        ("plain:grüße", "plain", "grüße", {}),
        ("plain:n?via=sudo -n -u a --", "plain", "n", {"via": "sudo -n -u a --"}),
    ],
)
def test_a_target_is_taken_apart(
    text: str, scheme: str, address: str, options: dict[str, str]
) -> None:
    target, transport = parse_target(text, ALL, connect_timeout=7.0)
    assert (target.scheme, target.address, dict(target.options)) == (scheme, address, options)
    assert transport.scheme == scheme
    assert target.connect_timeout == 7.0
    assert str(target) == target.text == text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the target is empty"),
        ("nowhere:x", "no transport is called 'nowhere'"),
        ("plain:-oProxyCommand=x", "starts with '-'"),
        ("plain://-x", "starts with '-'"),
        ("-x", "starts with '-'"),
        ("raw:-x", "starts with '-'"),
        ("plain:a\nb", "control character"),
        ("plain:a\0", "control character"),
        ("plain:a\x1b[2J", "control character"),
        ("plain:a\x7f", "control character"),
        ("plain:a\x9b", "control character"),
        ("plain:n?config=x", "an option 'config' that its transport does not know"),
        ("able:n?Config=x", "an option 'Config'"),
        ("able:n?=x", "an option ''"),
        ("able:n?config", "config='' is invalid"),
        ("able:n?config=", "config='' is invalid"),
        ("able:n?config=-x", "config='-x' is invalid"),
        ("able:n?config=a%0ab", "is invalid"),
        ("able:n?config=a&config=b", "gives 'config' twice"),
        ("able:never", "is never right"),
        ("plain:n?via=", "via='' is invalid"),
        ("plain:n?via=-x", "via='-x' is invalid"),
        ("plain:n?via='x", "is no list of words: No closing quotation"),
        ("plain:n?via=''", "names no program"),
        ("plain:n?via=%20", "names no program"),
        ("plain:n?via=a%0ab", "is invalid"),
    ],
)
def test_what_can_never_be_right_is_refused(text: str, words: str) -> None:
    with pytest.raises(TargetError) as caught:
        parse_target(text, ALL)
    assert words in caught.value.message
    assert "\x1b" not in caught.value.message


def test_an_unknown_scheme_names_those_there_are() -> None:
    with pytest.raises(TargetError, match="known   able:, plain:, raw:"):
        parse_target("nowhere:x", ALL)


def test_an_unknown_option_names_those_there_are() -> None:
    with pytest.raises(TargetError, match="one of config, python, state, via"):
        parse_target("able:n?x=1", ALL)


def test_a_bare_word_needs_a_transport_that_claims_it() -> None:
    with pytest.raises(TargetError, match="no plugin claims bare words"):
        parse_target("server01", plugins(Plain()))


def test_a_transport_may_give_up_what_it_could_do() -> None:
    modest = plugins(Able(bare_words=False), Raw(raw_address=False))
    with pytest.raises(TargetError, match="no plugin claims bare words"):
        parse_target("server01", modest)
    target, _ = parse_target("raw://a/?python=p", modest)
    assert (target.address, dict(target.options)) == ("a", {"python": "p"})


@pytest.mark.parametrize("words", [["sudo", "-n", "--"], ["sh", "-c", "a %20 & 'b' = \"$@\""]])
@pytest.mark.parametrize("text", ["plain:n", "able:n?config=/x", "server01"])
def test_words_before_the_interpreter_are_part_of_the_target(text: str, words: list[str]) -> None:
    target, _ = parse_target(text, ALL, via=words)
    again, _ = parse_target(str(target), ALL)
    assert via(target) == via(again) == tuple(words)
    assert (again.address, again.options) == (target.address, target.options)
    with pytest.raises(TargetError, match="gives 'via' twice"):
        parse_target(str(target), ALL, via=words)


def test_a_raw_address_has_no_words_before_it() -> None:
    target, _ = parse_target("raw:a?via=b", ALL, via=["c d"])
    assert (target.address, via(target), str(target)) == ("a?via=b", ("c d",), "raw:a?via=b")
    assert via(parse_target("raw:a?via=b", ALL)[0]) == ()
