"""Video-speech pretraining (Eq. 3): its settings, module, run and validation."""
