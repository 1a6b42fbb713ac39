"""Gaze-saliency prediction (section 3.3)."""
