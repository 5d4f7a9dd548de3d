"""Return jobs: what they print goes to the caller as it is printed."""
