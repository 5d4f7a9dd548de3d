"""The torture: random scripts of jobs and faults, and a judge who looks whether anything was lost.

``nox -s torture -- --seconds 3600 --seed 7 --places local,ssh`` runs new scripts until the time is
over. A script that fails is printed, with its seed, and written to a file that ``--replay`` plays.

Faults: the caller, the agent, its janitor, its nursery, a supervisor, the transport's program and
sshd's session process are killed or held up; connections are cut, reset, or swallow all packets;
sshd is restarted; the target's clock jumps, its disk is slow, or full.
"""
