"""Agreement of embeddings within a clip, between clips of a scan and between scans; needs no labels.

Within one scan, patient, scanner, room and speaker are the same: what is retrieved correctly there is content.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from usvs.data.pair_batch import read_pairs
from usvs.data.sampling_plan import SamplingPlan
from usvs.losses.settings import ObjectiveSettings
from usvs.store.clips import ClipTable
from usvs.store.prepared import PreparedStore
from usvs.tasks.diagnosis.contents import pair_mask
from usvs.tasks.diagnosis.losses import half_width
from usvs.tasks.pretraining.module import PretrainModel, model_inputs
from usvs.tasks.pretraining.settings import PretrainSettings
from usvs.training.trainer import Trainer
from usvs.utils.progress import track
from usvs.utils.spacing import evenly_spaced

SEED = 0xD1A6
MAX_SCANS = 24
CLIPS_A_SCAN = 16
ROUNDING = 1e-9
MIN_CLIPS_A_SCAN = 3  # with two, half of the guesses are right


class ScanEmbeddings(NamedTuple):
    """Embeddings of one scan's clips, all of length 1.

    Attributes:
        frames: [n, 2, d] two frames of each of n clips.
        speech: [n, 2, d] two pieces of speech of each.
    """

    frames: Tensor
    speech: Tensor


@dataclass(frozen=True)
class Agreement:
    """How alike two embeddings of a clip are, beside those of other clips.

    Attributes:
        what: the two that are compared.
        scans: with enough clips.
        clips: of all these scans.
        same_clip: mean cosine of two embeddings of one clip.
        same_scan: of different clips of one scan.
        other_scan: of different scans; NaN for one scan.
        retrieval: fraction of first embeddings whose nearest second one, among the clips of the scan, is their own
            clip's.
        chance: the same at chance, mean of 1 / clips of the scan.
        half_width: half of the 95 % interval of retrieval - chance over scans; NaN for one scan.
    """

    what: str
    scans: int
    clips: int
    same_clip: float
    same_scan: float
    other_scan: float
    retrieval: float
    chance: float
    half_width: float

    @property
    def above_chance(self) -> bool:
        """Whether retrieval within scans is above chance by more than its interval."""
        return self.retrieval - self.chance > self.half_width + ROUNDING

    def __str__(self) -> str:
        return (
            f"{self.what}: cosine {self.same_clip:.2f} within a clip, {self.same_scan:.2f} between clips of a scan,"
            f" {self.other_scan:.2f} between scans; retrieved within the scan {self.retrieval:.3f}"
            f" ± {self.half_width:.3f} (chance {self.chance:.3f})"
        )


def measure_agreement(
    model: PretrainModel, trainer: Trainer, store: PreparedStore, settings: PretrainSettings, clips: ClipTable
) -> tuple[Agreement, ...]:
    """Compare speech with speech, frames with frames and speech with frames; empty without scans with enough clips.

    Args:
        model: trained.
        trainer: that has the model on its device.
        store: the prepared scans.
        settings: of the run.
        clips: of the patients to measure on, best those that the run has not seen.
    """
    chosen = clips.select(pair_mask(clips, settings))
    scans = [scan for scan in np.unique(chosen.scan) if (chosen.scan == scan).sum() >= MIN_CLIPS_A_SCAN]
    scans = [scans[i] for i in evenly_spaced(len(scans), MAX_SCANS)]
    if not scans:
        return ()
    with trainer.evaluating():
        embedded = [
            _embed_scan(model, trainer, store, settings, _spaced(chosen, int(scan)))
            for scan in track(scans, "comparing clips of each scan")
        ]
    sources = {
        "speech, another piece of the clip": [(scan.speech[:, 0], scan.speech[:, 1]) for scan in embedded],
        "frames, another frame of the clip": [(scan.frames[:, 0], scan.frames[:, 1]) for scan in embedded],
        "from speech to a frame of the clip": [(scan.speech[:, 0], scan.frames[:, 0]) for scan in embedded],
    }
    return tuple(agreement_of(what, pairs) for what, pairs in sources.items())


def agreement_of(what: str, pairs: list[tuple[Tensor, Tensor]]) -> Agreement:
    """Summarise first and second embeddings [n, d] of the n clips of each scan, of length 1."""
    own, others, retrieved, chance = [], [], [], []
    for first, second in pairs:
        cosine = first @ second.t()
        count = len(first)
        own.append(float(cosine.diagonal().mean()))
        others.append(float((cosine.sum() - cosine.diagonal().sum()) / (count * (count - 1))))
        retrieved.append(float((cosine.argmax(dim=1) == torch.arange(count)).double().mean()))
        chance.append(1 / count)
    firsts, seconds = (torch.stack([pair[side].mean(dim=0) for pair in pairs]) for side in (0, 1))
    means = firsts @ seconds.t()  # of two scans: the mean cosine over all their pairs
    scans = len(pairs)
    apart = float((means.sum() - means.diagonal().sum()) / (scans * (scans - 1))) if scans > 1 else float("nan")
    return Agreement(
        what,
        scans,
        sum(len(first) for first, _ in pairs),
        float(np.mean(own)),
        float(np.mean(others)),
        apart,
        float(np.mean(retrieved)),
        float(np.mean(chance)),
        half_width(np.array(retrieved) - np.array(chance)),
    )


def _spaced(clips: ClipTable, scan: int) -> ClipTable:
    """Return up to `CLIPS_A_SCAN` clips of a scan, evenly spaced."""
    rows = np.flatnonzero(clips.scan == scan)
    mask: NDArray[np.bool_] = np.zeros(len(clips), np.bool_)
    mask[rows[evenly_spaced(len(rows), CLIPS_A_SCAN)]] = True
    return clips.select(mask)


def _embed_scan(
    model: PretrainModel, trainer: Trainer, store: PreparedStore, settings: PretrainSettings, clips: ClipTable
) -> ScanEmbeddings:
    two = settings.clips.model_copy(update={"groups_per_clip": 2})
    reading = settings.model_copy(update={"clips": two, "augment": settings.augment.crop_only()}).pairs
    no_order = ObjectiveSettings(affinity=False, order_fraction=1e-9)
    plan = SamplingPlan(clips, two, no_order, SEED, len(clips))
    batch = read_pairs(store, plan.batch(0, 0), reading)
    everything = batch._replace(pair_valid=torch.ones_like(batch.pair_valid))
    outputs = model.outputs(*trainer.compute.to_device(model_inputs(everything)))
    frames, speech = (
        torch.nn.functional.normalize(rows.float().cpu(), dim=1).view(len(clips), 2, -1)
        for rows in (outputs.video, outputs.positive)
    )
    return ScanEmbeddings(frames, speech)
