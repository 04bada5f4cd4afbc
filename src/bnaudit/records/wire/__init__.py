"""Records as JSON, and back: one writer, one reader, one schema, all made from the records' own types."""
