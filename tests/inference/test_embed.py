from pathlib import Path

import numpy as np
import pytest
import torch

from usvs.data.transforms import evaluation_frames
from usvs.errors import DataError
from usvs.inference.embed import embed
from usvs.models.se_resnext import SEResNeXt
from usvs.store.prepared import PreparedStore


@pytest.fixture
def encoder(tiny_planes):
    torch.manual_seed(0)
    return SEResNeXt(tiny_planes.model.video)


def test_a_stores_features_are_the_encoders_and_in_order(grating_store, encoder, tiny_planes):
    features, moments = embed(grating_store, encoder, frame_pixels=32, temporal_stride=5)
    store = PreparedStore(grating_store)
    assert features.shape == (len(store.scans) * 5, encoder.num_features)
    assert features.dtype == np.float32
    assert moments["scan_key"].to_pylist()[:6] == [store.scans[0]] * 5 + [store.scans[1]]
    np.testing.assert_allclose(moments["seconds"].to_numpy()[:5], [0.0, 0.2, 0.4, 0.6, 0.8])
    frames = evaluation_frames(store.scan(1).frames(np.array([10])), 32, tiny_planes.augment)
    with torch.no_grad():
        expected = encoder.eval()(frames)[0]
    np.testing.assert_allclose(features[7], expected, atol=1e-5)


def test_the_encoders_mode_is_put_back(grating_store, encoder):
    encoder.train()
    embed(grating_store, encoder, frame_pixels=32, temporal_stride=24)
    assert encoder.training


@pytest.mark.shared
def test_video_files_are_embedded_without_a_store(shared_data, encoder):
    files = sorted((shared_data / "lung_videos").rglob("*.mp4"))[:2]
    features, moments = embed(files, encoder, frame_pixels=32, temporal_stride=10)
    assert set(moments["scan_key"].to_pylist()) == {"0", "1"}
    assert len(features) == moments.num_rows
    assert np.isfinite(features).all()
    assert moments["seconds"].to_numpy()[0] == 0.0


def test_a_file_that_is_none_is_an_error(encoder, tmp_path):
    with pytest.raises(DataError):
        embed(Path(tmp_path / "nothing.mp4"), encoder)
