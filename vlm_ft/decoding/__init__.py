"""Constrained decoding: which decisions a form leaves open, and how the model makes them."""
