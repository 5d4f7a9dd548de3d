"""How fast remit is: ratios measured in one run, against what the work costs without it.

``python -m benchmarks`` (or ``nox -s bench``) prints a table: what, measured, floor, ok or short.
It starts an sshd of its own and needs root for that; without root what needs ssh is left out, and
the table says so. Nothing here is a test: a machine with other work to do measures something else.
The floors are those of docs/design.md, section 8.
"""
