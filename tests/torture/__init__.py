"""The torture: random scripts of jobs and faults, and a judge who looks whether anything was lost.

``nox -s torture -- --seed 7`` runs new scripts at all places in turn for an hour (``--seconds``). A
script that fails is told with its seed, and written to a file that ``--replay`` plays; one seed at
one place is always the same script.

Faults: the caller, the agent, its janitor, its forkserver, a supervisor, the transport's program
and sshd's session process are killed or held up; connections are cut, reset, or swallow all
packets; sshd is restarted; the target's clock jumps, its disk is slow, or full; it forks nothing
more, or opens no more files; a stranger gets a pid of the dead. Starts, runs and calls are
cancelled. Strangers are on each target, with session id 0 where it has a pid namespace of its own,
and must come to no harm. Some targets have the signals of musl.
"""
