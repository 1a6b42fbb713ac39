"""Scores, patient folds, probes and significance: functions of arrays."""
