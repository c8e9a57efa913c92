"""Scoring a folder of images: one row an image, resumable, exported as a table."""
