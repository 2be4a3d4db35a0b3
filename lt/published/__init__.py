"""Tables beside the papers: recipes run in folders of their own, and set against what was published for them."""
