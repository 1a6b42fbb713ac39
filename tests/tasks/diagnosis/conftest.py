"""Fixtures of small stores."""

from tests.support.pretraining_stores import noise_store, silent_store, store_writer, tiny

__all__ = ["noise_store", "silent_store", "store_writer", "tiny"]
