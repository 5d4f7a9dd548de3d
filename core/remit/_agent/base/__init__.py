"""What all parts of the agent stand on: its loop, its links, its children and the system."""
