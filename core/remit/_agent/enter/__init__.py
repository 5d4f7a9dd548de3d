"""The verb `enter`, and what an entered shell finds."""
