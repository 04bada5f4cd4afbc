"""TorchScript files as text: their code is Python's grammar, and is parsed, never run."""
