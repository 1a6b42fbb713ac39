"""The training engine, independent of the task: steps, schedule, several processes, checkpoints, logs and run folder."""
