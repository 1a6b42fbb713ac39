"""Damages a small prepared store in thousands of ways and reads everything that training reads from it.

    python -m tests.faults.store_mutants [--count 2000] [--seed 0] [--out docs/results/store_mutants.json]

Each mutant must be refused with one line, or give exactly what the undamaged store gives. Every stream is read: clips,
frames, speech, gaze and labels. Every second mutant also stands for `usvs audit`: what it misses is counted, unless the
mutant is equivalent.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from tests.faults.forked import run_forked
from tests.faults.mutations import MUTATIONS, files_of
from tests.support.pretraining_stores import IDENTITY, source_columns
from usvs.data.frame_table import labelled_frames, read_frames
from usvs.data.gaze_table import gaze_frames
from usvs.data.pair_dataset import PairDataset
from usvs.errors import UsvsError
from usvs.store.audit import audit_store
from usvs.store.prepare_failures import write_failures
from usvs.store.prepared import PreparedStore
from usvs.store.settings import ClipSettings, PrepareSettings
from usvs.store.tables import CatalogueWriter
from usvs.store.writer import write_prepared_scan

SIDE, SCANS, CLIPS, RATE_HZ, LIMIT_SECONDS = 36, 3, 4, 5, 20.0
CODECS = ("jpeg", "raw")
HELD = ("refused", "identical")
UNDAMAGED = (  # what an audit finds in the store before it is damaged: it has no archive, and one scan failed
    "archive: does not exist any more",
    f"scan {SCANS:012x}: could not be prepared: run 'usvs prepare'",
)


def write_store(store: Path, codec: str, generation: int = 0, scans: int = SCANS) -> Path:
    """Write a store of noise with every stream; another generation has the same keys and other content."""
    for folder in ("catalogue", "prepared"):
        (store / folder).mkdir(parents=True)
    (store / "archive.json").write_text(json.dumps({"archive": str(store / "archive"), "version": 1, **IDENTITY}))
    (store / "private.key").write_bytes(bytes(32))
    settings, count = PrepareSettings(frame_pixels=SIDE, codec=codec), CLIPS * 2 * RATE_HZ
    with CatalogueWriter(store / "catalogue", ClipSettings()) as writer:
        for number in range(scans + 1):
            draw = np.random.default_rng([number, generation])
            key, patient, source = f"{number:012x}", f"{number + 100:012x}", {"bytes": 9, "modified_ns": generation}
            row = {"scan_key": key, "patient_key": patient, "path": f"{number}.mp4", "status": "ok"}
            fractions = draw.uniform(0.2, 1, CLIPS).astype(np.float32)
            writer.add({**row, **source_columns(SIDE, **source)}, fractions)
            if number == scans:
                continue  # this one failed
            write_prepared_scan(
                store / "prepared" / key,
                scan_key=key,
                patient_key=patient,
                frames=((i / RATE_HZ, draw.integers(0, 256, (SIDE, SIDE), dtype=np.uint8)) for i in range(count)),
                speech=draw.normal(0, 3000, CLIPS * 2 * settings.rate_hz).astype(np.int16),
                gaze=draw.uniform(0.1, 0.9, (count, 2)),
                planes=draw.integers(-1, 3, count).astype(np.int16),
                gaze_degree=(0.1, 0.12),
                settings=settings,
                sector=(0, 0, SIDE, SIDE),
                source=source,
            )
        writer.publish()
    write_failures(store, [f"{scans:012x}"])
    return store


def content_sha256(folder: Path) -> str:
    """Return a hash of everything that training, fine-tuning and evaluation read from a store."""
    store, digest = PreparedStore(folder), hashlib.sha256()
    digest.update(repr((store.scans, store.clip_settings)).encode())
    dataset = PairDataset(store, split="all", seed=1, frame_pixels=32)
    for number in range(len(dataset)):
        for value in dataset[number]:
            digest.update(value.numpy().tobytes() if isinstance(value, torch.Tensor) else repr(value).encode())
    labelled = labelled_frames(store, stride=4)
    gaze = gaze_frames(store, stride=4, window_seconds=0.1, sigma_degrees=1.0)
    for column in (labelled.scan, labelled.frame, labelled.label, read_frames(store, labelled)):
        digest.update(column.tobytes())
    for column in (gaze.fixations, gaze.sigma, gaze.frames.frame):
        digest.update(column.tobytes())
    digest.update("\n".join([*labelled.group, *gaze.group]).encode())
    return digest.hexdigest()


def read_or_refuse(folder: Path, audits: bool) -> dict[str, str]:
    """Return what comes of reading a store: a hash, or the message that refuses it."""
    result = {}
    if audits:
        try:
            findings = [str(finding) for finding in audit_store(folder, workers=1).findings]
            result["audit"] = "; ".join(finding for finding in findings if finding not in UNDAMAGED)
        except UsvsError as error:
            result["audit"] = str(error)
        except BaseException as error:
            result["audit_traceback"] = repr(error)
    try:
        return result | {"sha256": content_sha256(folder)}
    except UsvsError as error:
        return result | {"refused": str(error)}
    except BaseException as error:
        return result | {"traceback": repr(error)}


def copy_store(store: Path, copy: Path) -> Path:
    """Copy a store as hard links."""
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(store, copy, copy_function=os.link)
    return copy


def judge(value: dict[str, str] | None, code: int, timed_out: bool, expected: str) -> str:
    """Return what came of a mutant; only the outcomes in `HELD` are right."""
    if timed_out:
        return "hangs"
    if value is None or code:
        return "crash"
    if "traceback" in value:
        return "traceback"
    if "refused" in value:
        return "refused" if "\n" not in value["refused"] and len(value["refused"]) < 600 else "unclear message"
    return "identical" if value["sha256"] == expected else "silent"


def try_mutants(
    count: int,
    seed: int,
    folder: Path,
    kinds: Sequence[str] = tuple(MUTATIONS),
    codecs: Sequence[str] = CODECS,
    file_name: str | None = None,
) -> dict[str, object]:
    """Make and read mutants; return the counts by kind and by file, and the ones that are not right.

    Args:
        count: number of mutants.
        seed: of all choices.
        folder: an empty folder.
        kinds: of damage, in turn.
        codecs: of the stores that are damaged.
        file_name: the file that is damaged; None: any.
    """
    stores = {
        (codec, generation): write_store(folder / f"{codec}{generation}", codec, generation)
        for codec in CODECS
        for generation in (0, 1)
    }
    expected = {codec: content_sha256(stores[codec, 0]) for codec in CODECS}
    by_kind: dict[str, Counter[str]] = defaultdict(Counter)
    by_file: dict[str, Counter[str]] = defaultdict(Counter)
    wrong, missed, audited, slowest, started = [], 0, 0, 0.0, time.monotonic()
    for number in range(count):
        choose = random.Random(f"{seed} {number}")
        codec = choose.choice(codecs)
        store = copy_store(stores[codec, 0], folder / "mutant")
        names = sorted({file.name for file in files_of(store)}) if file_name is None else [file_name]
        name = choose.choice(names)
        file = choose.choice([file for file in files_of(store) if file.name == name])
        kind = kinds[number % len(kinds)]
        others = [stores[codec, 1], stores["raw" if codec == "jpeg" else "jpeg", 0]]
        MUTATIONS[kind](store, file, choose, others)
        ended = run_forked(lambda store=store, audits=number % 2 == 0: read_or_refuse(store, audits), LIMIT_SECONDS)
        value, slowest = ended.value or {}, max(slowest, ended.seconds)
        outcome = judge(ended.value, ended.code, ended.timed_out, expected[codec])
        outcome = "traceback" if "audit_traceback" in value else outcome
        by_kind[kind][outcome] += 1
        by_file[name][outcome] += 1
        if "audit" in value:
            audited += 1
            missed += outcome == "refused" and not value["audit"]
        if outcome not in HELD or ("audit" in value and outcome == "refused" and not value["audit"]):
            wrong.append({"number": number, "kind": kind, "file": str(file), "outcome": outcome, **value})
    total = Counter(outcome for counts in by_kind.values() for outcome in counts.elements())
    return {
        "count": count,
        "seed": seed,
        "seconds": round(time.monotonic() - started, 1),
        "slowest_seconds": round(slowest, 2),
        "outcomes": dict(total),
        "audit": {"audited": audited, "refused_but_not_found": missed},
        "by_kind": {kind: dict(counts) for kind, counts in sorted(by_kind.items())},
        "by_file": {name: dict(counts) for name, counts in sorted(by_file.items())},
        "wrong": wrong,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", choices=MUTATIONS, action="append", help="of damage; default: all")
    parser.add_argument("--codec", choices=CODECS, action="append", help="of the prepared frames; default: both")
    parser.add_argument("--file", help="name of the file that is damaged; default: any")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="usvs-mutants-") as folder:
        kinds, codecs = options.kind or tuple(MUTATIONS), options.codec or CODECS
        result = try_mutants(options.count, options.seed, Path(folder), kinds, codecs, options.file)
    text = json.dumps(result, indent=1)
    if options.out:
        options.out.write_text(text + "\n")
    print(text)
    sys.exit(any(entry["outcome"] not in HELD for entry in result["wrong"]))


if __name__ == "__main__":
    main()
