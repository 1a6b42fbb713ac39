"""Diagnosis of an archive and of a run: what was learnt on which patients, and what an archive can carry."""
