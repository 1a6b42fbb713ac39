"""From a plan to a batch: read, decode, vary."""
