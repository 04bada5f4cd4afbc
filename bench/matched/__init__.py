"""How near batches matched to the running statistics come to real ones: python -m bench.matched --write."""
