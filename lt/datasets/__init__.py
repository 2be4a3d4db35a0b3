"""Data sets: open_split(root, split, *, ...) gives a lt.data.Split."""
