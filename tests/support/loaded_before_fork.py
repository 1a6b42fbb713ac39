"""Imports what torch and usvs import late, so that forks of a process that imports this do not: seconds for each."""

import importlib

LATE = (
    "matplotlib.figure",
    "scipy.stats",
    "sklearn.linear_model",
    "sklearn.manifold",
    "sklearn.neighbors",
    "torch._dynamo",  # by the first optimiser
)
for name in LATE:
    importlib.import_module(name)
