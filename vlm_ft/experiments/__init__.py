"""What is learned from several runs: cross-validation, learning curves, comparisons."""
