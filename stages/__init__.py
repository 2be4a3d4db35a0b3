"""One script per pipeline stage: read params, read inputs, one call into lt, write outputs."""
