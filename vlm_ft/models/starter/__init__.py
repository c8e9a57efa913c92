"""The starter: a small base of a real family's architecture, trained on procedural pictures and texts."""
