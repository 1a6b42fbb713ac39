"""Implementations that usvs is compared with."""
