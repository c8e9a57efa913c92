"""Base models: facts about their families, loading, and tiny random models for tests and dry runs."""
