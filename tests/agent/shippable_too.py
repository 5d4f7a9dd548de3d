"""A second module of functions by source, with a global of the same name and another value."""

SCALE = 100


def scaled(n: int) -> int:
    return n * SCALE
