"""Base models: what is known of each family, how one is loaded, and small ones for tests and dry runs."""
