"""Typed answers: tasks, forms, predictions and metrics. Nothing here needs torch or a model."""
