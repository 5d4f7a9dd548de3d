"""Warm interpreters, and the pools of workers forked from them."""
