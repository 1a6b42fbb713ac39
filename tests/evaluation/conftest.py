"""Fixtures of labelled stores."""

from tests.support.labelled_stores import gaze_store, grating_store, noise_store, store_writer, tiny_planes

__all__ = ["gaze_store", "grating_store", "noise_store", "store_writer", "tiny_planes"]
