"""The forward sweep of the second order against double backward, on networks that people audit."""
