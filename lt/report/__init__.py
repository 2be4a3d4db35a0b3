"""The table of rows, and what is drawn of it."""
