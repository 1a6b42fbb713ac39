"""Pictures of stored results, and `report.html` of a run, a store or a fine-tuning."""
