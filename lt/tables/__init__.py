"""Runs of recipes in folders of their own."""
