"""The training engine: one step, its schedule, its records and its checkpoints, and the pretraining that uses them."""
