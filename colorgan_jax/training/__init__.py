"""A training run: its data, its steps, its checkpoints and its record."""
