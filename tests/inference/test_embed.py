"""`usvs.embed`: features as a table, with the input size of the encoder."""

import cv2
import numpy as np
import pytest
import torch

from tests.support.media_files import write_video
from usvs.data.transforms import evaluation_frames
from usvs.errors import DataError
from usvs.inference.embed import embed
from usvs.models.encoder import update_pretrained_cfg
from usvs.models.preprocessing import prepared_side
from usvs.models.se_resnext import SEResNeXt
from usvs.store.prepared import PreparedStore


@pytest.fixture
def encoder(tiny_planes):
    torch.manual_seed(0)
    encoder = SEResNeXt(tiny_planes.model.video)
    update_pretrained_cfg(encoder, {"input_size": (1, 32, 32)})
    return encoder


def features_of(table):
    return np.stack(table["features"].to_numpy())


def test_a_stores_features_are_the_encoders_and_in_order(grating_store, encoder, tiny_planes):
    table = embed(grating_store, encoder, stride=5)
    store = PreparedStore(grating_store)
    features = features_of(table)
    assert table.column_names == ["features", "scan", "patient", "seconds", "label"]
    assert features.shape == (len(store.scans) * 5, encoder.num_features)
    assert features.dtype == np.float32
    assert table["scan"].to_pylist()[:6] == [store.scans[0]] * 5 + [store.scans[1]]
    assert table["patient"].to_pylist()[:11:5] == ["9a7000000000", "9a7000000000", "9a7000000001"]
    assert (
        table["label"].to_pylist()[:5] == ["abdomen", "abdomen", "background", "background", "kidneys"]
        or len(set(table["label"].to_pylist()[:5])) == 3
    )
    np.testing.assert_allclose(table["seconds"].to_numpy()[:5], [0.0, 0.2, 0.4, 0.6, 0.8])
    frames = evaluation_frames(store.scan(1).frames(np.array([10])), 32, tiny_planes.augment)
    with torch.no_grad():
        expected = encoder.eval()(frames)[0]
    np.testing.assert_allclose(features[7], expected, atol=1e-5)


def test_the_encoders_mode_is_restored(grating_store, encoder):
    encoder.train()
    embed(str(grating_store), encoder, stride=24)
    assert encoder.training


def test_arrays_of_any_layout(grating_store, encoder):
    frames = PreparedStore(grating_store).scan(0).frames(np.arange(3))
    expected = features_of(embed(grating_store, encoder, stride=1))[:3]
    for images in (frames, torch.from_numpy(frames)[:, None], list(frames), np.repeat(frames[..., None], 3, axis=3)):
        table = embed(images, encoder)
        np.testing.assert_allclose(features_of(table), expected, atol=1e-5)
        assert table["scan"].null_count == table["seconds"].null_count == 3


def test_the_frame_size_of_files_is_the_encoders(encoder, tmp_path):
    """An encoder of 32 pixels gets 32 pixels of a video: with the paper's 224 the features would be others."""
    assert [prepared_side(pixels, 0.9) for pixels in (64, 224)] == [72, 256]  # as the two profiles prepare frames
    random = np.random.default_rng(0)
    picture = cv2.resize(random.integers(0, 255, (12, 12), np.uint8), (240, 240), interpolation=cv2.INTER_CUBIC)
    cv2.imwrite(str(tmp_path / "a.png"), picture)
    seen = []
    forward = type(encoder).forward_features

    class Spy(type(encoder)):
        def forward_features(self, images):
            seen.append(images.shape)
            return forward(self, images)

    encoder.__class__ = Spy
    table = embed(tmp_path / "a.png", encoder)
    assert seen == [torch.Size([1, 1, 32, 32])] and table["scan"].to_pylist() == [str(tmp_path / "a.png")]
    seen.clear()
    write_video(tmp_path / "a.mp4", count=20)
    table = embed([tmp_path / "a.mp4"], encoder, stride=5)
    assert {shape[1:] for shape in seen} == {(1, 32, 32)} and table.num_rows == 4
    assert table["seconds"].to_pylist()[0] == 0.0 and table["label"].null_count == 4


@pytest.mark.slow
@pytest.mark.shared
def test_video_files_are_embedded_without_a_store(shared_data, encoder):
    files = sorted((shared_data / "lung_videos").rglob("*.mp4"))[:2]
    table = embed(files, encoder, stride=10)
    assert set(table["scan"].to_pylist()) == {str(file) for file in files}
    assert np.isfinite(features_of(table)).all()
    assert table["seconds"].to_numpy()[0] == 0.0


def test_a_file_that_is_none_is_an_error(encoder, tmp_path):
    with pytest.raises(DataError):
        embed(tmp_path / "nothing.mp4", encoder)
    with pytest.raises(DataError, match="expected a prepared store"):
        embed(tmp_path, encoder)
