"""A prepared store without an archive: gratings whose direction is the plane, two scans a patient."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.support.pretraining_stores import source_columns
from tests.support.tiny_models import tiny_encoder, tiny_model
from usvs.archive.label_tracks import LabelTrack, Span, dump_labels
from usvs.audio.settings import SpectrogramSettings
from usvs.data.settings import AugmentSettings
from usvs.store.settings import ClipSettings, PrepareSettings
from usvs.store.tables import CatalogueWriter
from usvs.store.writer import write_prepared_scan
from usvs.tasks.classification.settings import ClassificationSettings
from usvs.tasks.pretraining.settings import PretrainSettings
from usvs.training.settings import OptimiserSettings, RunSettings

# of stores without a private key
STORE_ID = "0123456789abcdef"
IDENTITY = {"store_id": STORE_ID, "key_check": ""}
FRAME_PIXELS = 36
FRAMES = 24
PLANES_SHOWN = (1, 3, 9)  # three of the fourteen

TINY_MODEL = tiny_model(tiny_encoder(output_stride=16))


def grating(plane: int, random: np.random.Generator) -> np.ndarray:
    """A picture in which only the stripes' direction depends on the plane: phase, contrast and noise are anyone's."""
    angle = np.pi * PLANES_SHOWN.index(plane) / len(PLANES_SHOWN)
    y, x = np.mgrid[:FRAME_PIXELS, :FRAME_PIXELS]
    wave = np.sin(0.8 * (x * np.cos(angle) + y * np.sin(angle)) + random.uniform(0, 2 * np.pi))
    picture = 110 + random.uniform(40, 70) * wave + random.normal(0, 15, wave.shape)
    return np.clip(picture, 0, 255).astype(np.uint8)


def spot(place: np.ndarray, random: np.random.Generator, pixels: int = FRAME_PIXELS) -> np.ndarray:
    """A bright spot in noise, which is where people look."""
    y, x = np.mgrid[:pixels, :pixels]
    away = ((x + 0.5) / pixels - place[0]) ** 2 + ((y + 0.5) / pixels - place[1]) ** 2
    picture = 60 + 150 * np.exp(-away / (2 * 0.05**2)) + random.normal(0, 15, away.shape)
    return np.clip(picture, 0, 255).astype(np.uint8)


def write_store(
    store: Path,
    patients: list[str | None],
    informative: bool = True,
    gaze: bool = False,
    paths: Sequence[str] | None = None,
    relabel: Mapping[int, int] | None = None,
    unlabelled: Sequence[int] = (),
    pixels: int = FRAME_PIXELS,
    own_labels: Mapping[int, str] | None = None,
) -> Path:
    """Two scans a patient, every plane in each; without `informative` the labels do not go with the pictures.

    With `gaze` the pictures are spots instead, with a fixation in all but every fifth frame. `paths` are those of the
    scans in the archive; `relabel` gives the frames of the first scan, by number, another plane; the scans in
    `unlabelled` have no labels. `pixels` is the side of a spot's picture. With `own_labels` there are no labels of
    planes, but a label column ``stripes``: the name of each plane shown.
    """
    (store / "catalogue").mkdir(parents=True)
    (store / "archive.json").write_text(json.dumps({"archive": str(store), "version": 1, **IDENTITY}))
    rows = []
    for number, patient in enumerate(patient for patient in patients for _ in range(2)):
        random = np.random.default_rng(number)
        shown = np.repeat(PLANES_SHOWN, FRAMES // len(PLANES_SHOWN))
        labels = shown if informative else random.permutation(shown)
        for frame, plane in (relabel or {}).items() if number == 0 else ():
            labels = np.where(np.arange(FRAMES) == frame, plane, labels)
        key = f"5ca{number:09x}"
        places = random.uniform(0.15, 0.85, (FRAMES, 2))
        looks = np.where(np.arange(FRAMES)[:, None] % 5 == 4, np.nan, places).astype(np.float32)
        pictures = (
            [spot(place, random, pixels) for place in places] if gaze else [grating(plane, random) for plane in shown]
        )
        write_prepared_scan(
            store / "prepared" / key,
            scan_key=key,
            patient_key=patient,
            frames=((0.04 * place, picture) for place, picture in enumerate(pictures)),
            speech=None,
            gaze=(lambda seconds, looks=looks: looks) if gaze else None,
            planes=None if number in unlabelled or own_labels is not None else labels.astype(np.int16),
            gaze_degree=(0.1, 0.12) if gaze else None,
            settings=PrepareSettings(frame_pixels=pixels, codec="raw"),
            sector=(0, 0, pixels, pixels),
            source={"bytes": 1, "modified_ns": 1},
        )
        path = f"{number}.mp4" if paths is None else paths[number]
        row = {"scan_key": key, "patient_key": patient, "path": path, "status": "ok", **source_columns(pixels)}
        if own_labels is not None and number not in unlabelled:
            spans = (Span(frame, frame + 1, own_labels[plane]) for frame, plane in enumerate(labels.tolist()))
            row |= {"planes": False, "labels": dump_labels({"stripes": LabelTrack(tuple(spans), "frames")})}
        rows.append(row)
    with CatalogueWriter(store / "catalogue", ClipSettings()) as writer:
        for row in rows:
            writer.add(row, None)
        writer.publish()
    return store


PATIENTS = [f"9a7{number:09x}" for number in range(6)]


@pytest.fixture(scope="session")
def store_writer():
    return write_store


@pytest.fixture(scope="session")
def grating_store(tmp_path_factory) -> Path:
    return write_store(tmp_path_factory.mktemp("gratings") / "store", PATIENTS)


@pytest.fixture(scope="session")
def gaze_store(tmp_path_factory) -> Path:
    return write_store(tmp_path_factory.mktemp("gaze") / "store", PATIENTS[:4], gaze=True)


@pytest.fixture(scope="session")
def noise_store(tmp_path_factory) -> Path:
    return write_store(tmp_path_factory.mktemp("noise") / "store", PATIENTS, informative=False)


def tiny_pretraining(planes: ClassificationSettings, validation_fraction: float) -> PretrainSettings:
    """Settings of one epoch of pretraining with the network of `planes`."""
    return PretrainSettings(
        profile="quick",
        model=planes.model,
        spectrogram=SpectrogramSettings(n_fft=256, frames=32),
        optimiser=OptimiserSettings(kind="adamw", schedule="one_cycle", epochs=1, batch_clips=8),
        run=planes.run,
        validation_fraction=validation_fraction,
    )


@pytest.fixture(scope="session")
def tiny_planes() -> ClassificationSettings:
    return ClassificationSettings(
        profile="quick",
        model=TINY_MODEL,
        augment=AugmentSettings(flip=False),  # mirroring a grating changes its plane
        optimiser=OptimiserSettings(
            kind="adamw", learning_rate=5e-3, schedule="one_cycle", epochs=6, batch_clips=24, weight_decay=0.01
        ),
        run=RunSettings(device="cpu", compile="eager"),  # scripting takes longer than these trainings
        temporal_stride=1,
    )
