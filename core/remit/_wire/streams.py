"""The streams of DATA on a job's channel, and how much is told of what they held: docs/wire.md."""

STDIN, STDOUT, STDERR, RECORDS = 0, 1, 2, 3
# What stdout, stderr and records are called, on the wire and on disk.
NAMES = {STDOUT: "stdout", STDERR: "stderr", RECORDS: "records"}
# The rest of a task that is too large for its request.
TASK = 7
# Bytes of the end of stderr that is told where something failed.
STDERR_TAIL = 4096
# No stream is larger, on the wire or on disk.
MAX_SIZE = (1 << 63) - 1
