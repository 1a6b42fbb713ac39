"""Speech: where it is (voice activity) and what the network sees of it (log-spectrograms)."""
