"""Healthy networks, single injected defects, harmless changes, and what the rules say of each."""
