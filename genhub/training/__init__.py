"""From a recipe to a trained repository."""
