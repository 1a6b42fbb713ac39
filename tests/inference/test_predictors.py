import shutil

import cv2
import numpy as np
import pytest
import torch

from usvs import predict_planes
from usvs.archive.plane_labels import PLANES
from usvs.cli import main
from usvs.data.frame_table import labelled_frames, read_frames
from usvs.errors import ConfigError, DataError
from usvs.evaluation.folds import make_folds
from usvs.inference.predictors import load_detector
from usvs.media.images import padded_to_aspect, parse_box, read_gray_image
from usvs.media.sector import Box
from usvs.models.registry import describe_se_resnext
from usvs.models.se_resnext import SEResNeXt
from usvs.tasks.comparison import save_detector
from usvs.tasks.finetune import finetune_fold

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


@pytest.mark.shared
def test_all_six_real_planes_are_named_with_the_authors_box_and_with_ours(real):
    model, files = real
    for box in (AUTHORS_BOX, None):
        found = predict_planes(list(files.values()), model, box)
        assert [one.plane for one in found] == list(files)
        assert min(one.confidence for one in found) > 0.6
        assert all(sum(one.probabilities) == pytest.approx(1) for one in found)


@pytest.mark.shared
def test_size_format_and_surroundings_do_not_matter(real, tmp_path):
    model, files = real
    changed = {}
    for plane, file in files.items():
        picture = cv2.imread(str(file))
        variants = {
            "small.jpg": cv2.resize(picture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
            "large.png": cv2.resize(picture, None, fx=1.6, fy=1.6),
            "fan.png": picture[115:734, 81:874],
            "wide.png": cv2.copyMakeBorder(picture, 40, 60, 200, 300, cv2.BORDER_CONSTANT),
            "gray16.png": picture.mean(axis=2).astype(np.uint16) * 257,
            "alpha.png": np.dstack([picture, np.full(picture.shape[:2], 255, np.uint8)]),
        }
        for name, pixels in variants.items():
            place = tmp_path / f"{plane}_{name}"
            cv2.imwrite(str(place), pixels)
            changed[place] = plane
    wrong = {one.file.name: one.plane for one in predict_planes(list(changed), model) if one.plane != changed[one.file]}
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
def detector(grating_store, tiny_planes, tmp_path_factory):
    """Detectors of two folds as `usvs finetune planes` keeps them, and the store they learnt from."""
    from usvs.store.prepared import PreparedStore

    store, run = PreparedStore(grating_store), tmp_path_factory.mktemp("detectors")
    table = labelled_frames(store, stride=1)
    for fold in make_folds(table.group.tolist(), 2, seed=0):
        torch.manual_seed(1)
        task, _ = finetune_fold(store, table.of_groups(fold.train), SEResNeXt(tiny_planes.model.video), tiny_planes)
        described = {
            "task": "planes",
            "encoder": describe_se_resnext(tiny_planes.model.video),
            "prepared_pixels": 36,
            "settings": tiny_planes.model_dump(mode="json"),
        }
        save_detector(run / "detectors" / "random" / f"fold_{fold.number}", task, described)
    return run, store, table


def test_our_own_detectors_name_pictures(detector, tmp_path):
    run, store, table = detector
    rows = np.arange(0, len(table), 5)
    files = []
    for number, frame in enumerate(read_frames(store, table.take(rows))):
        files.append(tmp_path / f"{number}.png")
        cv2.imwrite(str(files[-1]), frame)
    whole = Box(0, 0, 36, 36)
    for model in (run, run / "detectors" / "random", run / "detectors" / "random" / "fold_1"):
        found = predict_planes(files, model, whole)
        right = [one.plane == PLANES[plane] for one, plane in zip(found, table.label[rows], strict=True)]
        assert np.mean(right) > 0.9


def test_folds_are_averaged_and_inits_are_not(detector, tmp_path):
    run, _, _ = detector
    both = load_detector(run)
    image = torch.randn(2, 1, 32, 32)
    with torch.no_grad():
        expected = torch.stack([task.logits(image).softmax(dim=1) for task in both.tasks]).mean(dim=0)
        torch.testing.assert_close(both.logits(image).softmax(dim=1), expected)
    assert len(both.tasks) == 2
    mixed = tmp_path / "mixed"
    for name in ("joint", "video"):
        shutil.copytree(run / "detectors" / "random", mixed / "detectors" / name)
    with pytest.raises(ConfigError, match="detectors of 2 inits, name one of them"):
        load_detector(mixed)


def test_what_cannot_be_used_is_one_error(detector, tmp_path):
    with pytest.raises(DataError, match=r"expected sononet:FILE or a run of 'usvs finetune planes'"):
        load_detector(tmp_path)
    broken = tmp_path / "fold_0"
    broken.mkdir()
    (broken / "detector.json").write_text("{}")
    with pytest.raises(DataError, match=r"detector '.*fold_0' cannot be read"):
        load_detector(broken)
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(DataError, match=r"text\.png': not readable as a picture"):
        read_gray_image(tmp_path / "text.png")
    with pytest.raises(DataError, match="there is no such file"):
        read_gray_image(tmp_path / "none.png")
    cv2.imwrite(str(tmp_path / "tiny.png"), np.zeros((8, 30), np.uint8))
    with pytest.raises(DataError, match=r"expected 16 pixels a side at least, got \[8, 30\]"):
        read_gray_image(tmp_path / "tiny.png")
    with pytest.raises(ConfigError, match=r"--box: expected LEFT,TOP,RIGHT,BOTTOM in pixels, got '1,2,3'"):
        parse_box("1,2,3")
    cv2.imwrite(str(tmp_path / "small.png"), np.zeros((20, 30), np.uint8))
    with pytest.raises(DataError, match=r"30 x 20 pixels, and --box reaches to 40, 20"):
        predict_planes([tmp_path / "small.png"], detector[0], parse_box("0,0,40,20"))


def test_padding_reaches_the_aspect_and_keeps_every_pixel():
    picture = np.arange(1.0, 25.0).reshape(4, 6)
    for aspect in (0.5, 1.5, 3.0):
        padded = padded_to_aspect(picture, aspect)
        assert padded.shape[1] / padded.shape[0] == pytest.approx(aspect, rel=0.1)
        assert padded.sum() == picture.sum() and np.isin(picture, padded).all()
