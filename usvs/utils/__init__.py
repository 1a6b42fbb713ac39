"""Atomic files, hashing, columns on disk, keyed random numbers, processes and progress."""
