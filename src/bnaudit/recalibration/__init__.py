"""Running statistics computed again from data, and written back in the format that they came in."""
