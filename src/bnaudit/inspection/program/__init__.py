"""Files of torch.export as data: the graph is JSON, the weights are bytes; pickles stay closed."""
