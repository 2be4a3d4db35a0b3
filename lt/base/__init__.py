"""Stage 1: the base model, trained, or a backbone as it is with a fitted head."""
