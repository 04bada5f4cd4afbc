"""Damaged and hostile files by the thousand, for every reader, in children with limits."""
