"""A small prepared store, written as `usvs prepare` would write it, and settings for runs of seconds."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.support.tiny_models import tiny_encoder, tiny_model
from usvs.archive.alignment import Alignment
from usvs.audio.settings import SpectrogramSettings
from usvs.data.settings import AugmentSettings
from usvs.losses.settings import ObjectiveSettings
from usvs.store.settings import ClipSettings, PrepareSettings
from usvs.store.tables import CatalogueWriter
from usvs.store.writer import write_prepared_scan
from usvs.tasks.pretraining.settings import PretrainSettings
from usvs.training.settings import OptimiserSettings, RunSettings

# of stores without a private key
STORE_ID = "0123456789abcdef"
IDENTITY = {"store_id": STORE_ID, "key_check": ""}
SECONDS, RATE_HZ, SIDE = 12.0, 5, 36
PREPARE = PrepareSettings(frame_pixels=SIDE, codec="raw")


def source_columns(side: int, **columns) -> dict[str, object]:
    """Columns of the catalogue for a scan that was written with the source, sector and alignment of these stores."""
    sides = {"sector_left": 0, "sector_top": 0, "sector_right": side, "sector_bottom": side}
    states = {"bytes": 1, "modified_ns": 1, "alignment": Alignment().model_dump_json(), "sound": "in_video"}
    return sides | states | {"gaze": False, "planes": False} | columns


def write_store(store: Path, scans: int = 4, sound: bool = True, patients: bool = True, speech: float = 0.9) -> Path:
    """Write a store of noise; every fourth clip is below high affinity."""
    (store / "catalogue").mkdir(parents=True)
    (store / "archive.json").write_text(json.dumps({"archive": str(store), "version": 1, **IDENTITY}))
    rows = []
    for number in range(scans):
        random = np.random.default_rng(number)
        key, patient = f"{number:012x}", f"{number + 100:012x}" if patients else None
        count = int(SECONDS * RATE_HZ)
        write_prepared_scan(
            store / "prepared" / key,
            scan_key=key,
            patient_key=patient,
            frames=((i / RATE_HZ, random.integers(0, 256, (SIDE, SIDE), dtype=np.uint8)) for i in range(count)),
            speech=random.normal(0, 3000, int(SECONDS * 24_000)).astype(np.int16) if sound else None,
            gaze=None,
            planes=None,
            settings=PREPARE,
            sector=(0, 0, SIDE, SIDE),
            source={"bytes": 1, "modified_ns": 1},
        )
        row = {
            "scan_key": key,
            "patient_key": patient,
            "status": "ok",
            "path": f"{key}.mp4",
            **source_columns(SIDE),
        }
        fractions = [(speech if clip % 4 else 0.1) if sound else float("nan") for clip in range(int(SECONDS / 2))]
        rows.append((row, np.array(fractions, np.float32)))
    with CatalogueWriter(store / "catalogue", ClipSettings()) as writer:
        for row, fractions in rows:
            writer.add(row, fractions)
        writer.publish()
    return store


@pytest.fixture(scope="session")
def noise_store(tmp_path_factory) -> Path:
    """Four patients with a scan of 12 s each: 24 clips, 16 of them with speech."""
    return write_store(tmp_path_factory.mktemp("noise") / "store")


@pytest.fixture(scope="session")
def silent_store(tmp_path_factory) -> Path:
    """The same without any sound."""
    return write_store(tmp_path_factory.mktemp("silent") / "store", sound=False)


def tiny_settings(**changes) -> PretrainSettings:
    """Settings whose step takes some ten milliseconds; `run` and `objective` may be changed by keyword tables."""
    run = {
        "device": "cpu",
        "compile": "eager",
        "log_every_steps": 1,
        "validate_every_steps": 3,
        "checkpoint_every_steps": 2,
    }
    objective = {"normalise": True, "temperature": 0.1, "form": "ntxent"}
    return PretrainSettings(
        profile="quick",
        spectrogram=SpectrogramSettings(n_fft=256, frames=32),
        augment=AugmentSettings(crop_fraction=0.95),
        model=tiny_model(tiny_encoder(), order_grid=2, order_dropout=0.5),
        objective=ObjectiveSettings(**(objective | changes.pop("objective", {}))),
        optimiser=OptimiserSettings(kind="adamw", schedule="one_cycle", epochs=2, batch_clips=6),
        run=RunSettings(**(run | changes.pop("run", {}))),
        validation_fraction=0.25,
        **changes,
    )


@pytest.fixture(scope="session")
def store_writer():
    return write_store


@pytest.fixture(scope="session")
def tiny():
    return tiny_settings
