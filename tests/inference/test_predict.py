import shutil

import cv2
import numpy as np
import pytest
import torch

from tests.support.media_files import write_video
from usvs import predict
from usvs.archive.labels import STANDARD_PLANES
from usvs.cli import main
from usvs.data.frame_table import labelled_frames, read_frames
from usvs.errors import ConfigError, DataError
from usvs.evaluation.folds import make_folds
from usvs.inference import frames as frames_of_files
from usvs.inference.models import predict_models
from usvs.inference.predict import load_classifier
from usvs.media.box import Box
from usvs.media.images import parse_box, read_gray_image
from usvs.models.se_resnext import SEResNeXt
from usvs.tasks.classification.planes import planes_task
from usvs.tasks.features import BATCH_FRAMES
from usvs.tasks.fit import fit_module
from usvs.tasks.model_files import TrainedModel, save_model

NAMES = {
    "4CH": "4CH",
    "ABDOMINAL": "abdomen",
    "BRAIN-TV": "brain_tv",
    "FEMUR": "femur",
    "PROFILE": "profile",
    "SPINE-SAGITTAL": "spine_sag",
}
AUTHORS_BOX = Box(81, 115, 874, 734)


@pytest.fixture(scope="module")
def real(shared_data):
    return f"sononet:{shared_data / 'SonoNet16.npz'}", {
        plane: shared_data / "standard_planes" / f"{stem}.png" for stem, plane in NAMES.items()
    }


@pytest.mark.slow
@pytest.mark.shared
def test_all_six_real_planes_are_named_with_the_authors_box_and_with_ours(real):
    model, files = real
    for box in (AUTHORS_BOX, None):
        found = predict(list(files.values()), model, box=box)
        assert [one.label for one in found] == list(files)
        assert min(one.confidence for one in found) > 0.6
        assert all(sum(one.probabilities) == pytest.approx(1) for one in found)


@pytest.mark.slow
@pytest.mark.shared
def test_size_format_and_surroundings_do_not_matter(real, tmp_path):
    model, files = real
    changed = {}
    for plane, file in files.items():
        picture = cv2.imread(str(file))
        variants = {
            "small.jpg": cv2.resize(picture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
            "large.png": cv2.resize(picture, None, fx=1.6, fy=1.6),
            "sector.png": picture[115:734, 81:874],
            "wide.png": cv2.copyMakeBorder(picture, 40, 60, 200, 300, cv2.BORDER_CONSTANT),
            "gray16.png": picture.mean(axis=2).astype(np.uint16) * 257,
            "alpha.png": np.dstack([picture, np.full(picture.shape[:2], 255, np.uint8)]),
        }
        for name, pixels in variants.items():
            place = tmp_path / f"{plane}_{name}"
            cv2.imwrite(str(place), pixels)
            changed[place] = plane
    wrong = {one.file.name: one.label for one in predict(list(changed), model) if one.label != changed[one.file]}
    assert not wrong


@pytest.mark.shared
def test_the_command_prints_file_plane_and_confidence(real, capsys):
    model, files = real
    with pytest.raises(SystemExit) as left:
        raise SystemExit(main(["predict", "planes", *map(str, files.values()), "--model", model]))
    assert not left.value.code
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [line[:2] for line in lines] == [[str(file), plane] for plane, file in files.items()]
    assert all(0.5 < float(line[2]) <= 1 for line in lines)


@pytest.fixture(scope="module")
def trained(grating_store, tiny_planes, tmp_path_factory):
    """Models of two folds as `usvs finetune planes` saves them, and the store they were trained on."""
    from usvs.store.prepared import PreparedStore

    store, run, task = PreparedStore(grating_store), tmp_path_factory.mktemp("models"), planes_task()
    table = labelled_frames(store, stride=1)
    for fold in make_folds(table.group.tolist(), 2, seed=0):
        torch.manual_seed(1)
        encoder = SEResNeXt(tiny_planes.model.video)
        module, _ = fit_module(task, store, table.of_groups(fold.train), encoder, tiny_planes)
        model = TrainedModel(task, module, tiny_planes, 36)
        save_model(run / "models" / "random" / f"fold_{fold.number}", model)
    return run, store, table


def test_fine_tuned_models_predict_images(trained, tmp_path):
    run, store, table = trained
    rows = np.arange(0, len(table), 5)
    files = []
    for number, frame in enumerate(read_frames(store, table.take(rows))):
        files.append(tmp_path / f"{number}.png")
        cv2.imwrite(str(files[-1]), frame)
    whole = Box(0, 0, 36, 36)
    for model in (run, run / "models" / "random", run / "models" / "random" / "fold_1"):
        found = predict(files, model, box=whole)
        right = [one.label == STANDARD_PLANES[plane] for one, plane in zip(found, table.label[rows], strict=True)]
        assert np.mean(right) > 0.9


def test_folds_are_averaged_and_the_best_of_several_inits_is_used(trained, tmp_path, caplog):
    run, _, _ = trained
    both = load_classifier(run)
    image = torch.randn(2, 1, 32, 32)
    with torch.no_grad():
        expected = torch.stack([one.module.logits(image).softmax(dim=1) for one in both.models]).mean(dim=0)
    torch.testing.assert_close(predict_models(both.models, image), expected)
    assert len(both.models) == 2
    mixed = tmp_path / "mixed"
    for name in ("joint", "video"):
        shutil.copytree(run / "models" / "random", mixed / "models" / name)
    with pytest.raises(DataError, match=r"models of 2 inits and no readable results\.json: name one of '.*joint'"):
        load_classifier(mixed)
    (mixed / "results.json").write_text('{"best_init": "video"}')
    load_classifier(mixed)
    assert "using the models of init 'video', the best of joint, video" in caplog.text


def test_a_bad_file_is_a_row_with_the_reason_and_exit_code_3(trained, tmp_path, capsys):
    run, store, table = trained
    frame = read_frames(store, table.take(np.array([0])))[0]
    cv2.imwrite(str(tmp_path / "good.png"), frame)
    (tmp_path / "bad.png").write_text("no picture")
    files = [tmp_path / "bad.png", tmp_path / "good.png", tmp_path / "none.png"]
    found = predict(files, run)
    assert [one.error is None for one in found] == [False, True, False]
    assert "expected a PNG, JPEG, BMP or TIFF" in found[0].error and "there is no such file" in found[2].error
    with pytest.raises(SystemExit) as left:
        main(["predict", "planes", *map(str, files), "--model", str(run)])
    assert left.value.code == 3
    out, err = capsys.readouterr()
    rows = [line.split("\t") for line in out.splitlines()]
    assert [row[1] for row in rows] == ["not predicted", found[1].label, "not predicted"]
    assert "2 of 3 files could not be read" in err


def test_the_frames_of_a_video_are_predicted_with_their_times(trained, tmp_path):
    write_video(tmp_path / "a.mp4", count=20)
    found = predict(tmp_path / "a.mp4", trained[0], stride=10)
    assert len(found) == 2 and found[0].seconds == 0.0 and found[1].seconds > 0
    assert str(found[1]).endswith(" s")


def test_a_video_is_read_in_batches_and_keeps_what_came_before_an_error(trained, tmp_path, monkeypatch):
    def frames(file, side, stride, box):
        for number in range(BATCH_FRAMES + 3):
            yield float(number), np.full((side, side), number % 256, np.uint8)
        raise DataError(f"video '{file}': damaged after {BATCH_FRAMES + 3} frames")

    monkeypatch.setattr(frames_of_files, "iter_video_frames", frames)
    batches = frames_of_files.file_batches(tmp_path / "scan.mp4", 36)
    assert len(next(batches)[1]) == BATCH_FRAMES  # before the rest of the video is decoded
    found = predict([tmp_path / "scan.mp4"], trained[0])
    assert [one.seconds for one in found[:-1]] == list(range(BATCH_FRAMES + 3)) and not any(
        one.error for one in found[:-1]
    )
    assert "damaged after" in found[-1].error


def test_what_cannot_be_used_is_one_error(trained, tmp_path):
    with pytest.raises(DataError, match=r"expected model\.json, or a run of 'usvs finetune'"):
        load_classifier(tmp_path)
    with pytest.raises(DataError, match="expected a run of 'usvs finetune', got no such folder"):
        load_classifier(tmp_path / "none")
    broken = tmp_path / "fold_0"
    broken.mkdir()
    (broken / "model.json").write_text("{}")
    with pytest.raises(DataError, match=r"fold_0/model\.json': expected an entry 'format'"):
        load_classifier(broken)
    np.savez(tmp_path / "SonoNet16.npz", a=np.zeros(1))
    with pytest.raises(ConfigError, match=r"expected 'sononet:.*SonoNet16\.npz'"):
        load_classifier(str(tmp_path / "SonoNet16.npz"))
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(DataError, match=r"text\.png': expected a PNG, JPEG, BMP or TIFF"):
        read_gray_image(tmp_path / "text.png")
    with pytest.raises(DataError, match="there is no such file"):
        read_gray_image(tmp_path / "none.png")
    cv2.imwrite(str(tmp_path / "tiny.png"), np.zeros((8, 30), np.uint8))
    with pytest.raises(DataError, match=r"expected at least 16 pixels a side, got \[8, 30\]"):
        read_gray_image(tmp_path / "tiny.png")
    with pytest.raises(ConfigError, match=r"--box: expected LEFT,TOP,RIGHT,BOTTOM in pixels, got '1,2,3'"):
        parse_box("1,2,3")
    cv2.imwrite(str(tmp_path / "small.png"), np.zeros((20, 30), np.uint8))
    outside = predict([tmp_path / "small.png"], trained[0], box=parse_box("0,0,40,20"))
    assert "30 x 20 pixels, and --box reaches to 40, 20" in outside[0].error


def test_a_pretraining_and_a_folder_of_files_are_named_as_what_they_are(trained, tmp_path):
    (tmp_path / "RUN").mkdir()
    (tmp_path / "RUN" / "metrics.jsonl").write_text("")
    with pytest.raises(DataError, match=r"got one of 'usvs pretrain', which has no classes: .* --zero-shot CLASSES"):
        load_classifier(tmp_path / "RUN")
    (found,) = predict(tmp_path, trained[0])
    assert found.error.endswith("got a folder of files: name the files, or index and prepare the folder")
