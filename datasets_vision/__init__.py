"""Readers of labelled images and texts, and procedural sets; nothing here knows tasks or models."""
