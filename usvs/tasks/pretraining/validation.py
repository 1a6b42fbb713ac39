"""Validation of a run on patients it never trains on: losses, accuracies and retrieval, each beside chance."""

from contextlib import closing

import torch
from torch import Tensor

from usvs.data.sampling_plan import SamplingPlan
from usvs.data.torch_loader import PairLoader
from usvs.store.clips import ClipTable
from usvs.store.prepared import PreparedStore
from usvs.tasks.pretraining.chance import CONTRASTIVE, CORRESPONDENCE, MEASURED_CHANCE, REVERSE, STREAMS, with_chance
from usvs.tasks.pretraining.module import PairOutputs, PretrainModel, model_inputs
from usvs.tasks.pretraining.settings import PretrainSettings
from usvs.training.trainer import Trainer, to_floats

VALIDATION_SEED = 0x5EED  # the same batches for every run, whatever its seed
MAX_BATCHES = 8
POOL_CLIPS = 128
OF_PAIRS = (*CORRESPONDENCE, *CONTRASTIVE, *REVERSE, *STREAMS, *MEASURED_CHANCE.values())


class Validation:
    """Fixed batches of the validation patients' clips, read again at each validation.

    The clips' own speech is used even in the shuffled control, so that all runs are measured alike. Frames are cropped
    as in training, at fixed random positions, but neither flipped nor changed in gain.

    Retrieval: of each clip with valid pairs, up to `POOL_CLIPS` of them, group k gives one frame and one piece of
    speech, drawn independently in the clip. N of these make a pool. Speech is retrieved correctly where, of all N
    frames, its own clip's has the largest similarity, and the other way round. The fraction of correct ones is a mean
    over the K pools; its chance level is 1 / N. Clips of one scan and of one plane are in the same pool, so 1 is not
    reachable.

    Args:
        store: the prepared scans.
        clips: of the validation patients.
        settings: of the run.
    """

    def __init__(self, store: PreparedStore, clips: ClipTable, settings: PretrainSettings) -> None:
        fixed_crop = settings.augment.model_copy(update={"flip": False, "gain_db": 0.0})
        objective = settings.objective.model_copy(
            update={"speech": "own", "order_fraction": 1.0, "resample_invalid_pairs": False, "scan_run_clips": 1}
        )
        fixed = settings.model_copy(update={"augment": fixed_crop, "objective": objective})
        plan = SamplingPlan(clips, settings.clips, objective, VALIDATION_SEED, settings.optimiser.batch_clips)
        self.objective = objective
        self.loader = PairLoader(store, plan, fixed.pairs)
        self.batches = min(plan.steps_per_epoch, MAX_BATCHES)

    def evaluate(self, model: PretrainModel, trainer: Trainer) -> dict[str, float]:
        """Return losses, accuracies and retrieval in evaluation mode, each beside its chance."""
        records: list[dict[str, float]] = []
        video: list[Tensor] = []
        speech: list[Tensor] = []
        with trainer.evaluating(), closing(self.loader.batches(0, self.batches)) as batches:  # type: ignore[type-var]
            for batch in batches:
                outputs = model.outputs(*trainer.compute.to_device(model_inputs(batch)))
                records.append(to_floats(model.loss(outputs)))
                for pool, embeddings in zip((video, speech), self._pool(outputs, batch.frames.size(1)), strict=True):
                    pool.append(embeddings)
        values = with_chance(_weighted_mean(records), self.objective)
        for name in ("retrieval_top1", "retrieval_top1_speech_to_video"):  # within a batch; the pool's replace it
            values.pop(name, None)
            values.pop(f"{name}_chance", None)
        return values | retrieval(torch.cat(video)[:POOL_CLIPS], torch.cat(speech)[:POOL_CLIPS])

    def _pool(self, outputs: PairOutputs, groups: int) -> tuple[Tensor, Tensor]:
        """Embeddings [n, K, d] of frames and their speech."""
        if self.objective.contrastive_weight == 0:
            return outputs.video.new_zeros((0, groups, 1)), outputs.video.new_zeros((0, groups, 1))
        rows = outputs.pair_valid.to(outputs.video.device)
        valid = [embeddings[rows].float() for embeddings in (outputs.video, outputs.positive)]
        if self.objective.normalise:
            valid = [torch.nn.functional.normalize(embeddings, dim=1) for embeddings in valid]
        frames, pieces = (embeddings.view(-1, groups, embeddings.size(1)) for embeddings in valid)
        return frames, pieces


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


def _weighted_mean(records: list[dict[str, float]]) -> dict[str, float]:
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
