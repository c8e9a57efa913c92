"""Experiments over several runs: cross-validation, learning curves, comparisons."""
