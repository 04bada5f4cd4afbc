"""What tools make of BatchNorm, what bnaudit says of their files, and its remedies, carried out."""
