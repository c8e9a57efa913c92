"""Read a recipe's sources into examples with answers and roles."""
