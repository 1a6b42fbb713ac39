"""An archive, which is a user's folder of scans: discovery, manifest, alignment, gaze formats, labels and importers."""
