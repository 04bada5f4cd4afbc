"""The second order in every form that a model is written in: what goes direction by direction, and its cost."""
