"""Frame classification: standard planes (section 3.2) or any labels."""
