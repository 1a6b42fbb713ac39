"""The table on real pictures: rows pretrained on a narrated archive, read on videos of sources that it never showed.

    python -m tests.tasks.transfer_table OUT --store STORE --labels LABELS.csv --seen ARCHIVE.ground_truth/sources.csv \
        [--label-column point] [--held-out] [--profile small] [--seeds 0 1 2] [--sononet FILE] \
        [--group NAME=CLASS,CLASS ...] [--set NAME=VALUE ...]

LABELS.csv is the table that `usvs narrate` was given: file, label, patient. Videos of patients in sources.csv are seen
ones: their labels train a linear classifier on frozen features; all other videos test it. With --held-out (an archive
whose scans are of one patient each) the patients that the runs keep for validation are the unseen ones. Classes that
only one side has are left out. Rows: Rand. (calibrated), raw pixels, SonoNet where given, the pretrained rows of
`ROWS`, and the same network trained from scratch with the labels of the seen videos; features pooled and on a 2 x 2
grid of the feature map; all labelled patients, or a few. Each pretraining is kept in OUT and resumed, so the command
can be interrupted.

One file because each row is made, read and compared in one pass; run_results.py uses its parts.

OUT/table.json has every figure, the spread over seeds, and the paired sign-flip test of Ours against each row: over the
unseen patients, of the share of their frames that are right, mean over seeds. With --other, a store of narrated videos
of unseen sources, also the losses there.
"""

import argparse
import csv
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

import usvs
from usvs.config import load_settings
from usvs.data.transforms import training_frames
from usvs.data.validation_split import split_store
from usvs.evaluation.label_reading import confusion_nats
from usvs.evaluation.metrics import classification_metrics
from usvs.evaluation.probe import probe_predict
from usvs.evaluation.significance import paired_difference
from usvs.inference.frames import file_batches
from usvs.models.batch_norm import calibrate_batch_norm
from usvs.models.encoder import Encoder
from usvs.models.preprocessing import prepared_side
from usvs.store.catalogue import Catalogue
from usvs.store.prepared import PreparedStore
from usvs.tasks.classification.settings import ClassificationSettings, classification_profile
from usvs.tasks.diagnosis.losses import read_run
from usvs.tasks.initial_encoder import initial_encoder
from usvs.tasks.pretraining.load import load_pretrain_model
from usvs.tasks.pretraining.settings import OBJECTIVES, pretrain_profile
from usvs.training.environment import describe_environment
from usvs.training.trainer import Trainer

ROWS = ("joint", "contrastive", "video", "shuffled")
RAW_PIXELS = 24  # a side
FEW_PATIENTS = 8
GRIDS = (1, 2)
SUPERVISED_UPDATES, SUPERVISED_BATCH, SUPERVISED_RATE = 450, 63, 3e-3
Features = dict[int, NDArray[np.float32]]  # by grid


class Frames:
    """Every eighth frame of all labelled videos.

    Attributes:
        images: uint8 [n, S, S], the crop of each sector.
        label, patient, seen: of each frame.
    """

    def __init__(self, labels: Path, column: str, seen: set[str], side: int, cache: Path) -> None:
        rows = list(csv.DictReader(labels.open()))
        if not cache.exists():
            images, row_of = [], []
            for number, row in enumerate(rows):
                file = Path(row["file"]) if Path(row["file"]).is_absolute() else labels.parent / row["file"]
                for _, batch in file_batches(file, side):
                    images.append(batch)
                    row_of += [number] * len(batch)
                print(f"\rframes: video {number + 1} of {len(rows)}", end="", flush=True)
            print()
            np.savez(cache, images=np.concatenate(images), row=np.asarray(row_of))
        stored = np.load(cache)
        self.images: NDArray[np.uint8] = stored["images"]
        self.label = np.array([rows[row][column] for row in stored["row"]])
        self.patient = np.array([rows[row]["patient"] for row in stored["row"]])
        self.seen = np.isin(self.patient, list(seen))
        both = set(self.label[self.seen]) & set(self.label[~self.seen])
        kept = np.isin(self.label, list(both))
        for name in ("images", "label", "patient", "seen"):
            setattr(self, name, getattr(self, name)[kept])


def seen_patients(sources: Path, trained: set[str] | None = None) -> set[str]:
    """Return the patients of sources.csv whose pictures the runs are trained on: of all scans, or of these."""
    with sources.open() as file:
        rows = list(csv.DictReader(file))
    return {row["patient"] for row in rows if trained is None or trained.intersection(row["scans"].split())}


def trained_scans(options: argparse.Namespace) -> set[str]:
    """Return the paths, without suffix, of the scans that no run keeps for validation."""
    store = PreparedStore(options.store)
    settings = load_settings(pretrain_profile(options.profile), overrides=options.set)
    split = split_store(store, settings.validation_fraction)
    return {path for path, group in zip(scan_paths(store), split.scan_group, strict=True) if group in split.train}


def scan_paths(store: PreparedStore) -> list[str]:
    """Return the path of each scan in its archive, without suffix."""
    paths = Catalogue.load(store.store).paths
    return [str(Path(paths[scan]).with_suffix("")) for scan in store.scans]


def encoder_features(encoder: Encoder, frames: Frames, calibrate: bool) -> Features:
    """Return features of all frames on each grid."""

    def batches() -> Iterator[torch.Tensor]:
        for start in range(0, len(frames.images), 256):
            yield encoder.preprocess(frames.images[start : start + 256])

    if calibrate:  # on the frames whose labels are known, in batches that mix the videos
        rows = np.random.default_rng(0).permutation(np.flatnonzero(frames.seen))
        parts = np.array_split(rows, max(1, len(rows) // 256))
        calibrate_batch_norm(encoder, (encoder.preprocess(frames.images[part]) for part in parts))
    encoder.eval()
    found: dict[int, list[torch.Tensor]] = {grid: [] for grid in GRIDS}
    with torch.inference_mode():
        for inputs in batches():
            maps = encoder.forward_features(inputs)
            for grid in GRIDS:
                found[grid].append(F.adaptive_avg_pool2d(maps, grid).flatten(1))
    return {grid: torch.cat(parts).numpy() for grid, parts in found.items()}


def parse_groups(given: Sequence[str], frames: Frames) -> dict[str, list[str]]:
    """Return the classes of each NAME=CLASS,CLASS, after those of all classes."""
    named = (one.split("=") for one in given)
    return {"all": sorted(set(frames.label))} | {name: part.split(",") for name, part in named}


def raw_pixels(frames: Frames) -> Features:
    small = F.interpolate(torch.from_numpy(frames.images.astype(np.float32))[:, None], size=RAW_PIXELS, mode="area")
    return {1: small.flatten(1).numpy()}


def score(features: NDArray[np.float32], frames: Frames, classes: Sequence[str], few: int | None) -> dict[str, Any]:
    """Read `classes` of unseen sources: macro F1 in %, nats that are read, and the share of right frames by patient."""
    number = {name: k for k, name in enumerate(classes)}
    used = np.isin(frames.label, list(classes))
    known = used & frames.seen
    if few is not None:
        known &= np.isin(frames.patient, few_patients(frames, classes, few))
    label = np.array([number.get(name, -1) for name in frames.label])
    test = used & ~frames.seen
    guess = probe_predict(features[known], label[known], features[test], len(classes))
    right = guess == label[test]
    metrics = classification_metrics(label[test], guess, classes)
    patients = frames.patient[test]
    return {
        "f1": 100 * metrics.f1,
        "nats": confusion_nats(metrics.confusion),
        "right": {name: float(right[patients == name].mean()) for name in sorted(set(patients))},
    }


def few_patients(frames: Frames, classes: Sequence[str], few: int) -> list[str]:
    """The first `few` seen patients of a fixed order, after one of each class."""
    order = np.random.default_rng(0).permutation(sorted(set(frames.patient[frames.seen])))
    shows = {name: set(frames.label[frames.patient == name]) & set(classes) for name in order.tolist()}
    chosen: list[str] = []
    for needed in classes:
        if not any(needed in shows[name] for name in chosen):
            chosen.append(next(name for name in order.tolist() if needed in shows[name]))
    return (chosen + [name for name in order.tolist() if name not in chosen and shows[name]])[: max(few, len(chosen))]


def pretrained(row: str, seed: int, options: argparse.Namespace) -> Path:
    """Pretrain a row with a seed, or return the finished run."""
    run = Path(options.out) / f"{row}_{seed}"
    base = pretrain_profile(options.profile)
    settings = load_settings(base, overrides=[*options.set, *OBJECTIVES[row], f"run.seed={seed}"])
    if not (run / "done").exists():
        usvs.pretrain(options.store, run, settings, loggers=[], resume=run.exists())
        (run / "done").touch()
    return run


def table(options: argparse.Namespace) -> dict[str, Any]:
    settings = pretrain_profile(options.profile)
    side = prepared_side(settings.model.frame_pixels, settings.augment.crop_fraction)
    trained = trained_scans(options) if options.held_out else None
    frames = Frames(
        options.labels, options.label_column, seen_patients(options.seen, trained), side, options.out / "frames.npz"
    )
    groups = parse_groups(options.group, frames)
    downstream = classification_profile("quick")

    def random_encoder(seed: int) -> Features:
        start = downstream.model_copy(update={"run": downstream.run.model_copy(update={"seed": seed})})
        return encoder_features(initial_encoder("random", start), frames, calibrate=True)

    makers: dict[str, tuple[Callable[[int], Features], Sequence[int]]] = {
        "random": (random_encoder, options.seeds),
        "pixels": (lambda _: raw_pixels(frames), [0]),
        "supervised": (
            lambda seed: encoder_features(supervised(frames, seed, downstream), frames, calibrate=False),
            options.seeds,
        ),
    }
    if options.sononet:
        external = initial_encoder(f"sononet:{options.sononet}", downstream)
        makers["sononet"] = (lambda _: encoder_features(external, frames, calibrate=False), [0])

    def of_row(row: str) -> Callable[[int], Features]:
        return lambda seed: encoder_features(usvs.load_encoder(pretrained(row, seed, options)), frames, False)

    makers |= {row: (of_row(row), options.seeds) for row in ROWS}
    for seed in options.seeds:
        for row in ROWS:
            pretrained(row, seed, options)
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for row, (make, seeds) in makers.items():
        for seed in seeds:
            for grid, features in make(seed).items():
                for name, classes in groups.items():
                    for few in (None, FEW_PATIENTS):
                        key = f"{name}, {'pooled' if grid == 1 else '2 x 2'}, {few or 'all'} patients"
                        found.setdefault(key, {}).setdefault(row, []).append(score(features, frames, classes, few))
            print(
                row,
                seed,
                {key: round(rows[row][-1]["f1"], 1) for key, rows in found.items() if row in rows},
                flush=True,
            )
    return {
        "environment": describe_environment(torch.device("cpu")),
        "profile": options.profile,
        "settings": options.set,
        "seeds": options.seeds,
        "seen": len(set(frames.patient[frames.seen])),
        "unseen": len(set(frames.patient[~frames.seen])),
        "groups": groups,
        "scores": {key: {row: summary(several) for row, several in rows.items()} for key, rows in found.items()},
        "losses minus chance on unseen sources": losses(options) if options.other or options.held_out else {},
        "ours against": {key: compared(rows) for key, rows in found.items()},
    }


def losses(options: argparse.Namespace) -> dict[str, list[dict[str, float]]]:
    """Return `losses_on` the other store, or the patients kept for validation, for each pretrained row and seed."""
    store = PreparedStore(options.store if options.held_out else options.other)
    if options.held_out:
        store.clips = store.clips.of_scans(~np.isin(scan_paths(store), list(trained_scans(options))))
    return {row: [losses_on(store, pretrained(row, seed, options)) for seed in options.seeds] for row in ROWS}


def losses_on(store: PreparedStore, run: Path) -> dict[str, float]:
    """Return each loss of a run minus chance on all clips of a store, whose sources the run has not seen.

    Also with a fitted temperature (`NAME_fitted`, see `LossReading`), and retrieval.
    """
    model, settings = load_pretrain_model(run)
    trainer = Trainer(model, settings.optimiser, settings.run.model_copy(update={"compile": "eager"}), 1, 1)
    reading = read_run(
        model, trainer, store, settings, store.clips.select(np.zeros(len(store.clips), np.bool_)), store.clips, 0
    )
    found = {loss.name: round(-loss.unseen.gain_nats, 4) for loss in reading.losses if loss.unseen is not None}
    found |= {f"{loss.name}_fitted": round(-loss.fitted.gain_nats, 4) for loss in reading.losses if loss.fitted}
    return found | {name: round(value, 4) for name, value in reading.retrieval.items()}


def supervised(frames: Frames, seed: int, settings: ClassificationSettings) -> Encoder:
    """Train the encoder from scratch with the labels of all seen frames: what the same network makes of them."""
    start = settings.model_copy(update={"run": settings.run.model_copy(update={"seed": seed})})
    encoder = initial_encoder("random", start)
    names = sorted(set(frames.label))
    rows = [np.flatnonzero(frames.seen & (frames.label == name)) for name in names]
    head = torch.nn.Linear(encoder.num_features, len(names))
    optimiser = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], SUPERVISED_RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, SUPERVISED_RATE, SUPERVISED_UPDATES)
    random = np.random.default_rng(seed)
    augment = pretrain_profile("small").augment
    encoder.train()
    for _ in range(SUPERVISED_UPDATES):
        drawn = np.concatenate([random.choice(of_class, SUPERVISED_BATCH // len(names)) for of_class in rows])
        label = torch.arange(len(names)).repeat_interleave(SUPERVISED_BATCH // len(names))
        keys = random.integers(0, 2**63, len(drawn)).astype(np.uint64)
        inputs = training_frames(frames.images[drawn], keys, encoder.pretrained_cfg["input_size"][1], augment)
        optimiser.zero_grad()
        F.cross_entropy(head(encoder(inputs)), label).backward()
        optimiser.step()
        schedule.step()
    return encoder


def summary(several: Sequence[dict[str, Any]]) -> dict[str, Any]:
    scores = [one["f1"] for one in several]
    nats = float(np.mean([one["nats"] for one in several]))
    return {"f1": round(float(np.mean(scores)), 2), "seeds": [round(one, 2) for one in scores], "nats": round(nats, 4)}


def compared(rows: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Ours against each row: difference of the share of right frames over unseen patients, and p."""
    if "joint" not in rows:
        return {}
    means = {row: patient_means(several) for row, several in rows.items()}
    results = {}
    for row, others in means.items():
        if row != "joint":
            found = paired_difference(list(means["joint"].values()), list(others.values()))
            results[row] = {"difference": round(100 * found.mean, 2), "p": round(found.p_value, 4)}
    return results


def patient_means(several: Sequence[dict[str, Any]]) -> dict[str, float]:
    return {name: float(np.mean([one["right"][name] for one in several])) for name in several[0]["right"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--labels", type=Path, required=True)
    parser.add_argument("--seen", type=Path, required=True)
    parser.add_argument("--label-column", default="label")
    parser.add_argument("--held-out", action="store_true")
    parser.add_argument("--profile", default="small", choices=("quick", "small"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--sononet", type=Path)
    parser.add_argument("--other", type=Path, help="a store of narrated videos of unseen sources")
    parser.add_argument("--group", action="append", default=[])
    parser.add_argument("--set", action="append", default=[])
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    found = table(options)
    (options.out / "table.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
