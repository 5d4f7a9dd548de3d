"""Functions, their arguments and packages, on their way to another interpreter."""
