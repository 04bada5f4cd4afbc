"""Reading and checking configurations."""
