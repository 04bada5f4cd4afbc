"""Batches made from the model itself: optimised until they have the statistics that its layers store."""
