"""What an archive offers, without labels: speech, clips, patients and steps."""

from dataclasses import dataclass

import numpy as np

from usvs.data.pair_sampling import has_usable_speech, negative_candidates
from usvs.data.validation_split import PatientSplit
from usvs.store.clips import ClipTable
from usvs.store.prepared import PreparedStore
from usvs.tasks.pretraining.settings import PretrainSettings
from usvs.utils.columns import blocks


@dataclass(frozen=True)
class ArchiveContents:
    """Numbers of a prepared store at some settings.

    Attributes:
        patients: known or not; a scan without patient id counts as one.
        training_patients: those that are trained on.
        scans: prepared ones.
        scans_with_sound: those with sound, speech or not.
        minutes: length of all clips.
        speech_minutes: of speech, by the voice-activity detector.
        clips: all.
        pair_clips: clips with enough speech and a hard negative, which form pairs.
        training_pair_clips: those of the training patients.
        pair_patients: patients with such clips.
        batch_clips: clips in a step's batch.
        steps: updates of a complete run.
    """

    patients: int
    training_patients: int
    scans: int
    scans_with_sound: int
    minutes: float
    speech_minutes: float
    clips: int
    pair_clips: int
    training_pair_clips: int
    pair_patients: int
    batch_clips: int
    steps: int

    def __str__(self) -> str:
        return (
            f"{self.patients} patients ({self.training_patients} to train on), {self.scans} scans,"
            f" {self.scans_with_sound} with sound; {self.speech_minutes:.1f} of {self.minutes:.1f} minutes are speech;"
            f" {self.pair_clips} of {self.clips} clips have enough speech, {self.training_pair_clips} of them of"
            f" training patients; {self.steps} steps of {self.batch_clips} clips"
        )


def count_contents(store: PreparedStore, settings: PretrainSettings, split: PatientSplit) -> ArchiveContents:
    """Count what a store offers to a run with some settings and patients."""
    clips, seconds = store.clips, settings.clips.clip_seconds
    spoken = sum(float(np.nansum(clips.speech_fraction[block], dtype=np.float64)) for block in blocks(len(clips)))
    pairs = pair_mask(clips, settings)
    training = split.clips_of(split.train, clips.scan)
    sound = clips.has_sound
    batch = max(min(settings.optimiser.batch_clips, int(training.sum())), 1)
    return ArchiveContents(
        patients=len(split.train) + len(split.validation),
        training_patients=len(split.train),
        scans=len(store.scans),
        scans_with_sound=len(np.unique(clips.scan[sound])),
        minutes=len(clips) * seconds / 60,
        speech_minutes=spoken * seconds / 60,
        clips=len(clips),
        pair_clips=int(pairs.sum()),
        training_pair_clips=int((pairs & training).sum()),
        pair_patients=len({split.scan_group[scan] for scan in np.unique(clips.scan[pairs]).tolist()}),
        batch_clips=batch,
        steps=int(training.sum()) // batch * settings.optimiser.epochs,
    )


def pair_mask(clips: ClipTable, settings: PretrainSettings) -> np.typing.NDArray[np.bool_]:
    """Return which clips form pairs in an affinity-aware run: enough speech, and a hard negative near [n]."""
    mask = np.zeros(len(clips), np.bool_)
    for block in blocks(len(clips)):
        rows = np.arange(block.start, min(block.stop, len(clips)), dtype=np.int64)
        usable = has_usable_speech(clips, rows, settings.clips, settings.objective.affinity)
        mask[rows] = usable & (negative_candidates(clips, rows, settings.clips) >= 0).any(axis=1)
    return mask
