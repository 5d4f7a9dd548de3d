"""How an entered shell is started: its words, and the rc files that stand in front of the user's.

Each rc file first does what the shell would have done by itself, then puts remit's directory first
on PATH and the place into the prompt. The variables that lead a shell to its rc file are taken out
again, so that a shell started inside is an ordinary one. Pure. Standard library only, Python 3.6.
"""

from __future__ import annotations

from collections import namedtuple

# words [bytes]: after the shell's own name; env {bytes: bytes}: added to the environment
Start = namedtuple("Start", "words env")

# Characters that no shell takes for an order, be it in quotes or in a prompt.
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.:@_+-[]/ ")
_MAX_PLACE = 64

# A read-only variable ends the file that assigns to it, so that is tried in a subshell first. An
# alias or function of that name would stand in front of the program.
_PATH = """\
unalias remit 2>/dev/null || :
unset -f remit 2>/dev/null || :
case $PATH in
{directory}:*) ;;
*)
    if (PATH=$PATH) 2>/dev/null; then
        PATH={directory}:$PATH
        export PATH
    else
        remit() { {directory}/remit "$@"; }
    fi ;;
esac
: >|{directory}/read
"""
_NO_PROMPT = """echo "remit: the prompt cannot show the place, it is read-only" >&2"""

# A prompt that is set anew each time (by a theme, from PROMPT_COMMAND) loses what was in front of
# it, hence the functions that look before each prompt.
_BASH = (
    """\
if [ -f ~/.bashrc ]; then . ~/.bashrc; fi
"""
    + _PATH
    # A login shell inside, or one in tmux, may have another PATH.
    + """\
remit() {
    if [ -x {directory}/remit ]; then {directory}/remit "$@"; else command remit "$@"; fi
}
export -f remit
__remit_prompt() { case $PS1 in {mark}*) ;; *) PS1={mark}$PS1 ;; esac; }
if ! (PS1=$PS1) 2>/dev/null; then
    """
    + _NO_PROMPT
    + """
elif (PROMPT_COMMAND=) 2>/dev/null; then
    PROMPT_COMMAND="${PROMPT_COMMAND:+$PROMPT_COMMAND
}__remit_prompt"
else
    __remit_prompt
fi
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
if (PROMPT=$PROMPT) 2>/dev/null; then
    typeset -ga precmd_functions
    precmd_functions+=(__remit_prompt)
else
    """
    + _NO_PROMPT
    + """
fi
"""
)

# POSIX: the value of ENV is expanded before it is used as a path.
_SH = (
    """\
if [ -n "${REMIT_OWN-}" ]; then ENV=$REMIT_OWN; else unset ENV; fi
unset REMIT_OWN
if [ -n "${ENV-}" ]; then
    eval "if [ -f \\"$ENV\\" ]; then . \\"$ENV\\"; fi"
else
    # What these read where ENV names nothing.
    case ${KSH_VERSION-} in
    *MIRBSD*|*LEGACY*) if [ -f ~/.mkshrc ]; then . ~/.mkshrc; fi ;;
    ?*) if [ -f ~/.kshrc ]; then . ~/.kshrc; fi ;;
    esac
fi
"""
    + _PATH
    + """\
case ${PS1-} in
{mark}*) ;;
*)
    if (PS1=) 2>/dev/null; then
        PS1={mark}${PS1-'$ '}
    else
        """
    + _NO_PROMPT
    + """
    fi ;;
esac
"""
)

# Who has HOME lead to this is csh, which reads no more of a file after an error in it, nor in one
# that it sources: hence what is done before each prompt.
_CSH = """\
if ( $?REMIT_OWN ) then
    setenv HOME "$REMIT_OWN"
    set home = "$REMIT_OWN"
    unsetenv REMIT_OWN
else
    unsetenv HOME
    unset home
endif
set __remit_place = {csh_directory}
alias precmd 'source $__remit_place:q/csh-prompt'
echo -n >! $__remit_place:q/read
if ( $?home ) then
    if ( -e ~/.tcshrc && $?tcsh ) then
        source ~/.tcshrc
    else if ( -e ~/.cshrc ) then
        source ~/.cshrc
    endif
endif
set __remit_own = "`alias precmd`"
if ( "$__remit_own:q" !~ *__remit_place* ) then
    alias precmd 'eval $__remit_own:q; source $__remit_place:q/csh-prompt'
endif
source $__remit_place:q/csh-prompt
"""
_CSH_PROMPT = """\
alias remit '$__remit_place:q/remit'
if ( ! $?__remit_seen ) set __remit_seen = 'none so far'
if ( ! $?prompt ) set prompt = '> '
if ( "$prompt:q" != "$__remit_seen:q" ) then
    set __remit_seen = "$prompt:q"
    set prompt = {mark}"$prompt:q"
    set __remit_seen = "$prompt:q"
endif
if ( ! $?__remit_path ) then
    set __remit_path
    if ( "$path[1]:q" != "$__remit_place:q" ) set path = ( $__remit_place:q $path:q )
endif
"""

# After the user's own files.
_FISH = """\
functions --erase remit
abbr --erase remit 2>/dev/null
set --export PATH {directory} $PATH
functions --copy fish_prompt __remit_own_prompt
function fish_prompt
    printf %s {mark}
    __remit_own_prompt
end
true >{directory}/read
"""

_FILES = {
    b"bashrc": _BASH,
    b".zshenv": _ZSHENV,
    b".zshrc": _ZSHRC,
    b"shrc": _SH,
    b".cshrc": _CSH,
    b"csh-prompt": _CSH_PROMPT,
}
_LIKE_SH = (b"sh", b"dash", b"ash", b"ksh", b"ksh93", b"mksh", b"oksh", b"busybox")
# What an rc file makes in the directory once it has been read.
READ = b"read"


def mark(place: str) -> str:
    """What a prompt begins with: ``[server01] ``."""
    shown = "".join(char if char in _PLAIN else "_" for char in place[:_MAX_PLACE])
    return "[%s] " % shown


def files(directory: bytes, place: str) -> dict[bytes, bytes]:
    """The rc files that stand in ``directory``, by name."""
    return {name: _filled(template, directory, place) for name, template in _FILES.items()}


def _filled(template: str, directory: bytes, place: str) -> bytes:
    text = template.encode("ascii")
    words = {
        b"{directory}": quoted(directory),
        # The history of csh is expanded within quotes, too, and in a file.
        b"{csh_directory}": quoted(directory).replace(b"!", b"\\!"),
        b"{mark}": quoted(mark(place).encode("ascii")),
    }
    for word, value in words.items():
        text = text.replace(word, value)
    return text


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
    elif name == b"fish":
        words = [b"-C", _filled(_FISH, directory, place), b"-i"]
    elif name == b"zsh":
        added.update(_moved(b"ZDOTDIR", directory, env))
    elif name in (b"tcsh", b"csh"):
        added.update(_moved(b"HOME", directory, env))
    elif name in _LIKE_SH:
        # mksh takes it as it stands.
        path = directory if name == b"mksh" else _unexpanded(directory)
        added.update(_moved(b"ENV", path + b"/shrc", env))
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
