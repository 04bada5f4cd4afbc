"""The files of a training run: found, put in order, read one after the other."""
