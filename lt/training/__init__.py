"""The training of a backbone: engine, objective, schedule, checkpoints, processes."""
