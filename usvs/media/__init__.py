"""One file in: video, audio, DICOM, pictures; their timing, damage detection and sector geometry."""
