"""A user's folder: discovery, manifest, patients, alignment, gaze formats, labels and importers."""
