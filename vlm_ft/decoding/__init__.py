"""Constrained decoding: the decisions that an answer to a form leaves open, and how they are made."""
