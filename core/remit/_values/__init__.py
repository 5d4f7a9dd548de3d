"""Values as data: docs/values.md. Both ends carry it; Python 3.6."""
