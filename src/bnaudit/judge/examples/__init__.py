"""Subjects for the examples of rules: healthy ones, and the same with one thing changed."""
