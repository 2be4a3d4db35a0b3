"""Stage-2 methods: fit(inputs, *, ...) gives a re-trained head."""
