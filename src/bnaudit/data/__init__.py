"""Sample batches and the scalar that is differentiated: files, tensors, loaders, synthetic noise."""
