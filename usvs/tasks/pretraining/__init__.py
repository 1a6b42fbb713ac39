"""Video-speech pretraining (Eq. 3): settings, module, task, run and validation."""
