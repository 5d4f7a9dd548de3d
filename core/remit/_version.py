"""The version of this remit: what is built, installed and told of has this number."""

__version__ = "0.1.0"
