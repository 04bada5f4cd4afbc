"""What docs/theory.md quotes, measured; run by `python -m bench.theory_numbers`."""
