"""Exact Hessian-vector products at every BatchNorm of a model in one forward and one backward sweep."""
