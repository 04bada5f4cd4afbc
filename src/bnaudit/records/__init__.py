"""Frozen records that carry an audit's results from `measure` to `judge` and `render`."""
