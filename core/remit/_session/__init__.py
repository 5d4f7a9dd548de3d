"""Sessions, and the hubs that they live in."""
