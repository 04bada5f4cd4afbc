"""What `bnaudit.watch` costs, and whether the libraries that it writes to take its records."""
