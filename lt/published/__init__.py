"""Published protocols as recipes, and tables beside their numbers."""
