"""From a recipe's sources to examples with answers and roles."""
