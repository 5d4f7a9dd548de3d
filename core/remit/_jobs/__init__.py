"""Jobs as the caller holds them, and what they produce."""
