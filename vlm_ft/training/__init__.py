"""From a recipe to an adapter folder."""
