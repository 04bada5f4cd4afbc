"""Reports as text and as documents. Records go in, strings come out: no torch, no files."""
