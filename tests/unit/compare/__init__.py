"""Comparing reports."""
