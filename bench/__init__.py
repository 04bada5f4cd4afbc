"""Benches: run as modules from the repository root."""
