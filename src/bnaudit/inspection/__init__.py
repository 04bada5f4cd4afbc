"""What a model file says without being run."""
