"""Speech audio: voice activity detection and the log-spectrograms that the speech encoder takes."""
