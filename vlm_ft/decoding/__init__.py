"""Answers inside a form's grammar: what an answer leaves open, and how it is written."""
