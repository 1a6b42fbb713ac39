"""Validation of a run on patients it never trains on: losses, accuracies and retrieval, each beside chance."""

import math
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from usvs.data.sampling_plan import SamplingPlan
from usvs.data.torch_loader import PairLoader
from usvs.evaluation.embedding_spread import MIN_ROWS, EmbeddingSpread, embedding_spread
from usvs.losses.joint import JointObjective
from usvs.losses.settings import ObjectiveSettings
from usvs.store.clips import ClipTable
from usvs.store.prepared import PreparedStore
from usvs.tasks.pretraining.chance import CONTRASTIVE, CORRESPONDENCE, MEASURED_CHANCE, REVERSE, STREAMS, with_chance
from usvs.tasks.pretraining.module import PairOutputs, PretrainModel, model_inputs
from usvs.tasks.pretraining.settings import PretrainSettings
from usvs.training.trainer import Trainer, to_floats

VALIDATION_SEED = 0x5EED  # the same batches for every run, whatever its seed
MAX_BATCHES = 8
POOL_CLIPS = 128
STREAM_NAMES = ("video", "speech")
OF_PAIRS = (*CORRESPONDENCE, *CONTRASTIVE, *REVERSE, *STREAMS, *MEASURED_CHANCE.values())


class Measurements(NamedTuple):
    """What was measured on fixed batches.

    Attributes:
        records: the fields of each batch's loss.
        video: [n, K, d] embeddings of the frames of n clips with valid pairs; n = 0 without a term that uses them.
        speech: [n, K, d] of their speech.
        softer: `records` at the other temperatures that were asked for, in their order.
    """

    records: list[dict[str, float]]
    video: Tensor
    speech: Tensor
    softer: tuple[list[dict[str, float]], ...] = ()


@contextmanager
def _at_temperature(objective: torch.nn.Module, temperature: float) -> Iterator[None]:
    if not isinstance(objective, JointObjective):
        raise TypeError(f"temperatures: expected the loss JointObjective, got {type(objective).__name__}")
    own = objective.temperature
    objective.temperature = temperature
    try:
        yield
    finally:
        objective.temperature = own


class Validation:
    """Fixed batches of the validation patients' clips, read again at each validation.

    The clips' own speech is used even in the shuffled control, so that all runs are measured alike. Frames are cropped
    as in training, at fixed random positions, but neither zoomed, flipped nor changed in gain.

    Retrieval: of each clip with valid pairs, up to `POOL_CLIPS` of them, group k gives one frame and one piece of
    speech, drawn independently in the clip. N of these make a pool. Speech is retrieved correctly where, of all N
    frames, its own clip's has the largest similarity, and the other way round. The fraction of correct ones is a mean
    over the K pools; its chance level is 1 / N. Clips of one scan and of one plane are in the same pool, so 1 is not
    reachable.

    Args:
        store: the prepared scans.
        clips: of the validation patients.
        settings: of the run.
        min_batches: batches to measure where an epoch has fewer; they have other frames and speech of the same clips.
    """

    def __init__(
        self, store: PreparedStore, clips: ClipTable, settings: PretrainSettings, min_batches: int = 1
    ) -> None:
        objective = settings.objective.model_copy(
            update={"speech": "own", "order_fraction": 1.0, "resample_invalid_pairs": False, "scan_run_clips": 1}
        )
        fixed = settings.model_copy(update={"augment": settings.augment.crop_only(), "objective": objective})
        plan = SamplingPlan(clips, settings.clips, objective, VALIDATION_SEED, settings.optimiser.batch_clips)
        self.objective = objective
        self.settings = fixed
        self.loader: PairLoader = PairLoader(store, plan, fixed.pairs)
        self.batches: int = min(max(plan.steps_per_epoch, min_batches), MAX_BATCHES)

    def evaluate(self, model: PretrainModel, trainer: Trainer) -> dict[str, float]:
        """Return losses, accuracies and retrieval in evaluation mode, each beside its chance, and rank and spread."""
        return self.summarise(self.measure(model, trainer))

    def measure(self, model: PretrainModel, trainer: Trainer, temperatures: Sequence[float] = ()) -> Measurements:
        """Return the losses of each batch, and the embeddings, in evaluation mode.

        Args:
            model: to measure.
            trainer: that has it on its device.
            temperatures: other ones than the run's at which the losses are computed too; for `JointObjective` only.
        """
        records: list[dict[str, float]] = []
        softer: tuple[list[dict[str, float]], ...] = tuple([] for _ in temperatures)
        video: list[Tensor] = []
        speech: list[Tensor] = []
        with trainer.evaluating(), closing(self.loader.batches(0, self.batches)) as batches:  # type: ignore[type-var]
            for batch in batches:
                outputs = model.outputs(*trainer.compute.to_device(model_inputs(batch)))
                records.append(to_floats(model.loss(outputs)))
                for temperature, kept in zip(temperatures, softer, strict=True):
                    with _at_temperature(model.objective, temperature):
                        kept.append(to_floats(model.loss(outputs)))
                for pool, embeddings in zip((video, speech), self._pool(outputs, batch.frames.size(1)), strict=True):
                    pool.append(embeddings)
        return Measurements(records, torch.cat(video), torch.cat(speech), softer)

    def summarise(self, measured: Measurements) -> dict[str, float]:
        """Return what `evaluate` returns."""
        values = with_chance(weighted_mean(measured.records), self.objective)
        for name in ("retrieval_top1", "retrieval_top1_speech_to_video"):  # within a batch; the pool's replace it
            values.pop(name, None)
            values.pop(f"{name}_chance", None)
        values |= retrieval(*self.pools(measured))
        for stream, found in stream_spreads(measured).items():
            if math.isfinite(found.rank) and found.rows >= MIN_ROWS:
                values |= {f"{stream}_rank": found.rank, f"{stream}_spread": found.spread}
        return values

    def pools(self, measured: Measurements) -> tuple[Tensor, Tensor]:
        """Return embeddings [N, K, d] of frames and of speech, as the loss compares them; N up to `POOL_CLIPS`."""
        video, speech = measured.video[:POOL_CLIPS], measured.speech[:POOL_CLIPS]
        if not self.objective.normalise:
            return video, speech
        return torch.nn.functional.normalize(video, dim=2), torch.nn.functional.normalize(speech, dim=2)

    def _pool(self, outputs: PairOutputs, groups: int) -> tuple[Tensor, Tensor]:
        """Embeddings [n, K, d] of frames and their speech."""
        if not uses_embeddings(self.objective):
            return outputs.video.new_zeros((0, groups, 1)), outputs.video.new_zeros((0, groups, 1))
        rows = outputs.pair_valid.to(outputs.video.device)
        valid = [embeddings[rows].float() for embeddings in (outputs.video, outputs.positive)]
        frames, pieces = (embeddings.view(-1, groups, embeddings.size(1)) for embeddings in valid)
        return frames, pieces


def uses_embeddings(objective: ObjectiveSettings) -> bool:
    """Return whether a term trains the projections, so that embeddings mean something."""
    return objective.contrastive_weight > 0 or objective.stream_weight > 0


def stream_spreads(measured: Measurements) -> dict[str, EmbeddingSpread]:
    """Return rank and spread of the embeddings of both streams, ``video`` and ``speech``; empty without embeddings."""
    if not len(measured.video):
        return {}
    streams = zip(STREAM_NAMES, (measured.video, measured.speech), strict=True)
    return {name: embedding_spread(rows.flatten(0, 1).cpu().numpy()) for name, rows in streams}


def retrieval(video: Tensor, speech: Tensor) -> dict[str, float]:
    """Return the fraction of correct retrievals in both directions, and its chance level; empty for < 2 clips.

    Args:
        video: [N, K, d] embeddings, K pools of N.
        speech: [N, K, d] embeddings of each frame's speech.
    """
    pool = len(video)
    if pool < 2:
        return {}
    similarity = torch.einsum("nkd,mkd->knm", video, speech)  # [K, video, speech]
    own = torch.arange(pool, device=video.device)
    correct = {
        "pool_top1_video_to_speech": (similarity.argmax(dim=2) == own).float().mean().item(),
        "pool_top1_speech_to_video": (similarity.argmax(dim=1) == own).float().mean().item(),
    }
    return correct | {f"{name}_chance": 1 / pool for name in correct}


def weighted_mean(records: list[dict[str, float]]) -> dict[str, float]:
    """Average over batches of equal size; what is measured on pairs is weighted by the number of valid pairs."""
    weights = [record.get("valid_pairs", 1.0) for record in records]
    means = {}
    for name in records[0]:
        if name in OF_PAIRS:
            means[name] = sum(record[name] * weight for record, weight in zip(records, weights, strict=True))
            means[name] /= max(sum(weights), 1.0)
        else:
            means[name] = sum(record[name] for record in records) / len(records)
    return means
