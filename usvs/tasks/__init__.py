"""Pretraining, classification and saliency prediction behind one `Task` protocol."""
