"""Figures drawn from the stored results of runs and experiments."""
