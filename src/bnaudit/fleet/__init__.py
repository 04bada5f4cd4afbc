"""Many models: what is to be audited, on which engine, and the file with a row for each. Needs no torch."""
