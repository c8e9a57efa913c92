"""Typed answers: tasks, forms, predictions and their metrics. Pure: no torch, no model."""
