"""What lies on disk: the archive as it was found, and the prepared store made from it."""
