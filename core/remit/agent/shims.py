"""How an entered shell is started: its words, and the rc files that stand in front of the user's.

Each shim first does what the shell would have done by itself, then puts remit's directory first on
PATH and the place into the prompt. The variables that lead a shell to its shim are taken out
again, so that a shell started inside is an ordinary one. Pure. Standard library only, Python 3.6.
"""

from __future__ import annotations

from collections import namedtuple

# words [bytes]: after the shell's own name; env {bytes: bytes}: added to the environment
Start = namedtuple("Start", "words env")

# Characters that no shell takes for an order, be it in quotes or in a prompt.
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.:@_+-[]/ ")
_MAX_PLACE = 64

_PATH = """\
case $PATH in {directory}:*) ;; *) PATH={directory}:$PATH ;; esac
export PATH
"""

# A prompt that is set anew each time (by a theme, from PROMPT_COMMAND) loses what was in front of
# it, hence the functions that look before each prompt.
_BASH = (
    """\
if [ -f ~/.bashrc ]; then . ~/.bashrc; fi
"""
    + _PATH
    + """\
__remit_prompt() { case $PS1 in {mark}*) ;; *) PS1={mark}$PS1 ;; esac; }
PROMPT_COMMAND="${PROMPT_COMMAND:+$PROMPT_COMMAND
}__remit_prompt"
"""
)

# zsh asks ZDOTDIR anew before each of its files, and .zshenv may be what sets it.
_ZSHENV = """\
if (( ${+REMIT_OWN} )); then ZDOTDIR=$REMIT_OWN; else unset ZDOTDIR; fi
if [[ -f "${ZDOTDIR:-$HOME}/.zshenv" ]]; then . "${ZDOTDIR:-$HOME}/.zshenv"; fi
if (( ${+ZDOTDIR} )); then REMIT_OWN=$ZDOTDIR; else unset REMIT_OWN; fi
ZDOTDIR={directory}
"""
_ZSHRC = (
    """\
if (( ${+REMIT_OWN} )); then ZDOTDIR=$REMIT_OWN; else unset ZDOTDIR; fi
unset REMIT_OWN
if [[ -f "${ZDOTDIR:-$HOME}/.zshrc" ]]; then . "${ZDOTDIR:-$HOME}/.zshrc"; fi
"""
    + _PATH
    + """\
__remit_prompt() { [[ $PROMPT == {mark}* ]] || PROMPT={mark}$PROMPT }
typeset -ga precmd_functions
precmd_functions+=(__remit_prompt)
"""
)

# POSIX: the value of ENV is expanded before it is used as a path.
_SH = (
    """\
if [ -n "${REMIT_OWN-}" ]; then ENV=$REMIT_OWN; else unset ENV; fi
unset REMIT_OWN
if [ -n "${ENV-}" ]; then eval "if [ -f \\"$ENV\\" ]; then . \\"$ENV\\"; fi"; fi
"""
    + _PATH
    + """\
case ${PS1-} in {mark}*) ;; *) PS1={mark}${PS1-'$ '} ;; esac
"""
)

_FILES = {b"bashrc": _BASH, b".zshenv": _ZSHENV, b".zshrc": _ZSHRC, b"shrc": _SH}
_LIKE_SH = (b"sh", b"dash", b"ash", b"ksh", b"mksh", b"busybox")


def mark(place: str) -> str:
    """What a prompt begins with: ``[server01] ``."""
    shown = "".join(char if char in _PLAIN else "_" for char in place[:_MAX_PLACE])
    return "[%s] " % shown


def files(directory: bytes, place: str) -> dict[bytes, bytes]:
    """The shims that stand in ``directory``, by name."""
    words = {b"{directory}": quoted(directory), b"{mark}": quoted(mark(place).encode("ascii"))}
    texts = {}
    for name, template in _FILES.items():
        text = template.encode("ascii")
        for word, value in words.items():
            text = text.replace(word, value)
        texts[name] = text
    return texts


def start(shell: bytes, directory: bytes | None, env: dict[bytes, bytes], place: str) -> Start:
    """How to start ``shell`` as an interactive one; ``env`` is what it would otherwise have.

    Without a directory (there was no place for one) the prompt is all that can be given, and only
    to a shell that takes it from its environment.
    """
    name = shell.rpartition(b"/")[2]
    if directory is None:
        added = {}
        if name in _LIKE_SH:
            added[b"PS1"] = mark(place).encode("ascii") + b"$ "
        return Start([b"-i"], added)
    added = {b"PATH": with_path(directory, env)}
    words = [b"-i"]
    if name == b"bash":
        # Its long options stand before the short ones.
        words = [b"--rcfile", directory + b"/bashrc", b"-i"]
    elif name == b"zsh":
        added.update(_moved(b"ZDOTDIR", directory, env))
    elif name in _LIKE_SH:
        added.update(_moved(b"ENV", _unexpanded(directory) + b"/shrc", env))
    return Start(words, added)


def with_path(directory: bytes, env: dict[bytes, bytes]) -> bytes:
    """PATH with ``directory`` in front."""
    return directory + b":" + (env.get(b"PATH") or b"/usr/local/bin:/usr/bin:/bin")


def _moved(variable: bytes, value: bytes, env: dict[bytes, bytes]) -> dict[bytes, bytes]:
    own = env.get(variable)
    return {variable: value} if own is None else {variable: value, b"REMIT_OWN": own}


def _unexpanded(path: bytes) -> bytes:
    """The path as a value of ENV, which sh takes as if it stood in double quotes."""
    for special in (b"\\", b"$", b"`"):
        path = path.replace(special, b"\\" + special)
    return path


def quoted(word: bytes) -> bytes:
    """``word`` as one word of a shell's line."""
    return b"'" + word.replace(b"'", b"'\\''") + b"'"
