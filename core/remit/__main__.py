"""``python -m remit`` is ``remit``."""

from remit.cli import main

main()
