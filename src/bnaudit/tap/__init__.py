"""Catching every BatchNorm call of any model: one dispatcher override serves all formats."""
