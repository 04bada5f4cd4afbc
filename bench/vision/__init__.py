"""torchvision's networks, exported in every way and loaded again."""
