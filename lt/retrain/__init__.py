"""Stage 2: methods that train a head on cached features."""
