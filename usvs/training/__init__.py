"""The training engine, independent of the task: steps, schedule, processes, checkpoints, logs and run folder."""
