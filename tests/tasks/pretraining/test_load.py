import json

import pytest
import torch

from usvs.errors import DataError
from usvs.tasks.pretraining.load import load_encoder, load_pretrain_model
from usvs.tasks.pretraining.pretrain import pretrain


@pytest.fixture(scope="module")
def run(tmp_path_factory, noise_store, tiny):
    return pretrain(noise_store, tmp_path_factory.mktemp("encoder") / "run", tiny()).run


def test_the_encoder_is_the_video_stream_of_the_run(run):
    encoder = load_encoder(run)
    model, settings = load_pretrain_model(run)
    assert not encoder.training and not model.training
    video = model.streams.video.state_dict()
    assert all(torch.equal(value, video[name]) for name, value in encoder.state_dict().items())
    frames = torch.randn(2, 1, settings.model.frame_pixels, settings.model.frame_pixels)
    assert encoder(frames).shape == (2, encoder.num_features)
    torch.testing.assert_close(encoder(frames), model.streams.video(frames))


def test_a_checkpoint_folder_will_do_and_an_earlier_one_differs(run):
    newest, earlier = (
        load_encoder(run / "checkpoints" / "step_00000006"),
        load_encoder(run / "checkpoints" / "step_00000004"),
    )
    assert torch.equal(newest.conv1.weight, load_encoder(run).conv1.weight)
    assert not torch.equal(newest.conv1.weight, earlier.conv1.weight)


def test_what_is_no_run_or_damaged_is_named(run, tmp_path):
    import shutil

    with pytest.raises(DataError, match="expected a run folder with a checkpoint"):
        load_encoder(tmp_path)
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    file = copy / "checkpoints" / "step_00000006" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-4])
    # Not the one before: an encoder other than the one asked for would be used unnoticed.
    with pytest.raises(DataError, match=r"model\.safetensors does not match"):
        load_encoder(copy)


def test_a_checkpoint_of_other_settings_is_named(run, tmp_path):
    import shutil

    from usvs.utils.hashing import file_sha256

    folder = tmp_path / "step_00000006"
    shutil.copytree(run / "checkpoints" / "step_00000006", folder)
    state = json.loads((folder / "state.json").read_text())
    state["settings"]["model"]["video"]["stem_width"] = 16
    (folder / "state.json").write_text(json.dumps(state))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["sha256"]["state.json"] = file_sha256(folder / "state.json")
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError, match=r"does not fit the model of its settings.*conv1"):
        load_encoder(folder)
