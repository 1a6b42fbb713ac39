"""Predictions, densities of gaze, embeddings and cross-validation with trained models.

The public names are in `usvs`: `FrameClassifier`, `SaliencyModel`, `predict`, `embed`, `cross_validate` and
`held_out_frames`. They are not repeated here, since modules of this package have the same names.
"""
