"""A full disk in pretraining and fine-tuning: one line, and what was written before stays."""

import os
import re
import shutil
import subprocess
import sys

import pytest

from tests.support import labelled_stores

FULL_DISK = """
import os, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from tests.support import labelled_stores, pretraining_stores
from usvs.errors import ResourceError
from usvs.tasks.classification.settings import ClassificationSettings
from usvs.tasks.finetune import finetune
from usvs.tasks.pretraining.pretrain import pretrain
from usvs.training.checkpoint import step_folders, verify_checkpoint
from usvs.training.settings import OptimiserSettings, RunSettings
disk, store, labelled = map(Path, sys.argv[1:])
try:
    pretrain(store, disk / "run", pretraining_stores.tiny_settings(run={"loader_workers": 0, "keep_checkpoints": 9}))
except ResourceError as error:
    print(error)
kept = step_folders(disk / "run" / "checkpoints")
for folder in kept:
    verify_checkpoint(folder)
print(len(kept), [path.name for path in (disk / "run" / "checkpoints").glob(".*")])
filler = os.open(disk / "filler", os.O_CREAT | os.O_RDWR)
try:
    while True:
        os.write(filler, bytes(4096))
except OSError:
    os.ftruncate(filler, os.fstat(filler).st_size - 65536)  # enough for the record, not for a model
settings = ClassificationSettings(
    profile="quick", model=labelled_stores.TINY_MODEL, temporal_stride=4, folds=2,
    optimiser=OptimiserSettings(kind="adamw", epochs=1, batch_clips=24),
    run=RunSettings(device="cpu", compile="eager", loader_workers=0),
)
try:
    finetune("planes", labelled, disk / "tuned", settings, protocols=["finetune"])
except ResourceError as error:
    print(error)
"""


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_earlier_checkpoints_are_unchanged(tmp_path, noise_store):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=14m", "none", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a small file system")
    try:
        labelled = labelled_stores.write_store(tmp_path / "labelled", labelled_stores.PATIENTS)
        done = subprocess.run(
            [sys.executable, "-c", FULL_DISK, str(disk), str(noise_store), str(labelled)],
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    assert done.returncode == 0, done.stderr
    checkpoint, kept, model = done.stdout.splitlines()
    assert re.search(
        r"checkpoint '.*' could not be written: .*No space left on device.*; earlier checkpoints", checkpoint
    )
    assert kept in ("1 []", "2 []", "3 []")
    assert re.search(r"model '.*' could not be written: .*No space left on device", model)
