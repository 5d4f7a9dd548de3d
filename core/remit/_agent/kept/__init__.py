"""Kept jobs: their supervisors, and what the agent does for callers of them."""
