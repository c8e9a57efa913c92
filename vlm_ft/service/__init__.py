"""The HTTP service: assessments for other systems, under tokens."""
