"""What is drawn from an archive and when: times only, nothing is decoded here."""
