"""What the theorems say, measured: one file per idea; tensors stop here, records go on."""
