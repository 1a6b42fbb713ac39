"""What a run knows about patients it never trains on: losses, accuracies and retrieval, each beside chance."""

from collections.abc import Mapping
from contextlib import closing

import torch
from torch import Tensor

from usvs.data.sampling_plan import SamplingPlan
from usvs.data.torch_loader import PairLoader
from usvs.store.clips import ClipTable
from usvs.store.prepared import PreparedStore
from usvs.tasks.pretraining.chance import CONTRASTIVE, CORRESPONDENCE, beside_chance
from usvs.tasks.pretraining.module import PairOutputs, PretrainModel, model_inputs
from usvs.tasks.pretraining.settings import PretrainSettings
from usvs.training.trainer import Trainer, to_floats

HELD_OUT_SEED = 0x5EED  # the same batches for every run, whatever its own seed
MOST_BATCHES = 8
POOL_CLIPS = 128
OF_PAIRS = (*CORRESPONDENCE, *CONTRASTIVE, "retrieval_chance", "chance_contrastive")
LINES = {
    "correspondence": "L_cls",
    "contrastive": "L_cont",
    "order": "L_ord",
    "correspondence_accuracy": "pairs told",
    "order_accuracy": "orders told",
    "pool_top1_speech_to_video": "speech to video",
    "pool_top1_video_to_speech": "video to speech",
}


class Validation:
    """Fixed batches of held-out patients' clips, read anew each time.

    The clips' own speech is used even in the shuffled control, so that every run is asked the same. Frames are cropped
    as in training, from keyed places, but neither flipped nor changed in gain.

    Retrieval: of each clip whose pairs count, up to `POOL_CLIPS` of them, group k gives one frame and one piece of
    speech, drawn independently in the clip. N of these make a pool; the speech retrieves rightly where, of all N
    frames, its own clip's has the largest similarity; and the other way round. The share of right ones is a mean over
    the K pools, its chance 1 / N. Clips of one scan and of one plane are in the same pool, so 1 is out of reach.
    """

    def __init__(self, store: PreparedStore, clips: ClipTable, settings: PretrainSettings) -> None:
        steady = settings.augment.model_copy(update={"flip": False, "gain_db": 0.0})
        objective = settings.objective.model_copy(
            update={"speech": "own", "order_fraction": 1.0, "resample_invalid_pairs": False}
        )
        fixed = settings.model_copy(update={"augment": steady, "objective": objective})
        plan = SamplingPlan(clips, settings.clips, objective, HELD_OUT_SEED, settings.optimiser.batch_clips)
        self.objective = objective
        self.loader = PairLoader(store, plan, fixed.pairs)
        self.batches = min(plan.steps_per_epoch, MOST_BATCHES)

    def evaluate(self, model: PretrainModel, trainer: Trainer) -> dict[str, float]:
        """Return losses, accuracies and retrieval in evaluation mode, each beside its chance."""
        records: list[dict[str, float]] = []
        video: list[Tensor] = []
        speech: list[Tensor] = []
        with trainer.evaluating(), closing(self.loader.batches(0, self.batches)) as batches:  # type: ignore[type-var]
            for batch in batches:
                said = model.outputs(*trainer.compute.to_device(model_inputs(batch)))
                records.append(to_floats(model.loss(said)))
                for pool, embeddings in zip((video, speech), self._pool(said, batch.frames.size(1)), strict=True):
                    pool.append(embeddings)
        values = beside_chance(_weighted_mean(records), self.objective)
        for name in ("retrieval_top1", "retrieval_top1_speech_to_video"):  # of a batch; the pool's stand for them here
            values.pop(name, None)
            values.pop(f"{name}_chance", None)
        return values | retrieval(torch.cat(video)[:POOL_CLIPS], torch.cat(speech)[:POOL_CLIPS])

    def _pool(self, said: PairOutputs, groups: int) -> tuple[Tensor, Tensor]:
        """Embeddings [n, K, d] of frames and their speech."""
        if self.objective.contrastive_weight == 0:
            return said.video.new_zeros((0, groups, 1)), said.video.new_zeros((0, groups, 1))
        rows = said.pair_valid.to(said.video.device)
        counted = [embeddings[rows].float() for embeddings in (said.video, said.positive)]
        if self.objective.normalise:
            counted = [torch.nn.functional.normalize(embeddings, dim=1) for embeddings in counted]
        frames, pieces = (embeddings.view(-1, groups, embeddings.size(1)) for embeddings in counted)
        return frames, pieces


def retrieval(video: Tensor, speech: Tensor) -> dict[str, float]:
    """Return both directions' share of right retrievals and their chance; empty for fewer than two clips.

    Args:
        video: [N, K, d] embeddings, K pools of N.
        speech: [N, K, d], row for row its speech.
    """
    pool = len(video)
    if pool < 2:
        return {}
    similarity = torch.einsum("nkd,mkd->knm", video, speech)  # [K, video, speech]
    own = torch.arange(pool, device=video.device)
    right = {
        "pool_top1_video_to_speech": (similarity.argmax(dim=2) == own).float().mean().item(),
        "pool_top1_speech_to_video": (similarity.argmax(dim=1) == own).float().mean().item(),
    }
    return right | {f"{name}_chance": 1 / pool for name in right}


def describe_validation(values: Mapping[str, float]) -> str:
    """Return the values in one line, chance in brackets."""
    known = [(short, values[name], values[f"{name}_chance"]) for name, short in LINES.items() if name in values]
    return ", ".join(f"{short} {value:.3f} ({chance:.3f})" for short, value, chance in known)


def _weighted_mean(records: list[dict[str, float]]) -> dict[str, float]:
    """Average over batches of equal size; what is measured on pairs by the number of pairs that counted."""
    pairs = sum(record["valid_pairs"] for record in records)
    means = {}
    for name in records[0]:
        if name in OF_PAIRS:
            means[name] = sum(record[name] * record["valid_pairs"] for record in records) / max(pairs, 1.0)
        else:
            means[name] = sum(record[name] for record in records) / len(records)
    return means
