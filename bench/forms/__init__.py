"""The second order in every form that a model is written in: its cost, and what has no rule in it."""
