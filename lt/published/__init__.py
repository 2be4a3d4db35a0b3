"""Published protocols as recipes, and tables of what they measure beside the published numbers."""
