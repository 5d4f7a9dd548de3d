"""The torture: random scripts of jobs and faults, and a judge who looks whether anything was lost.

``nox -s torture -- --seconds 3600 --seed 7 --places local,ssh`` runs new scripts until the time is
over. A script that fails is printed, with its seed, and written to a file that ``--replay`` plays.
"""
