"""Readers of labelled images and texts, and procedural data sets; nothing here depends on tasks or models."""
