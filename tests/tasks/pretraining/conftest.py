"""Fixtures of small stores for pretraining."""

from tests.support.pretraining_stores import noise_store, silent_store, store_writer, tiny

__all__ = ["noise_store", "silent_store", "store_writer", "tiny"]
