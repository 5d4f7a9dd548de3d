"""The command line, ``remit``. The one place that prints."""


def main() -> None:
    """The console script: runs the words of ``sys.argv`` and exits."""
    # Imported late: ``remit.cli`` is the package of the collector too, which parses no words.
    from remit.cli._main import run_words

    run_words()
