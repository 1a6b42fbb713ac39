"""Cross-modal contrastive learning in plain PyTorch, with the datasets and operators of usvs but without its trainer.

    python examples/own_loop.py STORE              # a prepared store
    python examples/own_loop.py                    # without an archive: makes a small phantom first (half a minute)

Both encoders are timm's ResNet-18 if timm is installed (``pip install timm``), else a small SE-ResNeXt of usvs. The
batches are those that `usvs.pretrain` would draw with the same seed and settings.
"""

import argparse
import math
import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

import usvs
from usvs.audio.settings import SpectrogramSettings
from usvs.audio.spectrogram import LogSpectrogram
from usvs.data import PairBatch, PairDataset, StatelessBatchSampler, collate_pairs
from usvs.errors import MissingDependencyError
from usvs.losses.settings import ObjectiveSettings
from usvs.ops import contrastive_loss
from usvs.phantom.settings import PhantomSettings

BATCH_CLIPS = 8
EMBEDDING = 64
TEMPERATURE = 0.1


class Embedder(nn.Module):
    """An encoder and a linear projection to vectors of length 1."""

    def __init__(self, encoder: nn.Module, num_features: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.projection = nn.Linear(num_features, EMBEDDING)

    def forward(self, images: Tensor) -> Tensor:
        """Map images [n, 1, height, width] to embeddings [n, EMBEDDING]."""
        return F.normalize(self.projection(self.encoder(images)), dim=1)


def make_embedder() -> Embedder:
    """Return an untrained encoder of gray images: timm's if it can be imported, else one of usvs."""
    try:
        encoder = usvs.create_encoder("timm:resnet18", in_chans=1)
    except MissingDependencyError:
        encoder = usvs.create_encoder("se_resnext_quick", in_chans=1)
    return Embedder(encoder, encoder.num_features)


def contrastive_step(video: Embedder, speech: Embedder, spectrogram: LogSpectrogram, batch: PairBatch) -> Tensor:
    """Return the mean contrastive loss of a batch's valid pairs: each frame against all speech of the batch."""
    valid = batch.pair_valid  # high-affinity clips that have a hard negative
    frames = batch.frames[valid].flatten(0, 1)  # [n, 1, P, P], n = K pairs of each valid clip
    waveforms = torch.cat([batch.speech[valid].flatten(0, 1), batch.negative_speech[valid].flatten(0, 1)])  # [2 n, S]
    anchors = video(frames)
    positives, negatives = speech(spectrogram(waveforms)).chunk(2)
    candidates = torch.cat([positives, negatives])  # no frame is a candidate: none has to be left out
    no_self = torch.full((len(anchors),), -1)
    losses: Tensor = contrastive_loss(
        anchors, positives, negatives, candidates, no_self, temperature=TEMPERATURE, form="ntxent"
    )
    return losses.mean()


def train(store: Path, steps: int, seed: int = 0) -> list[tuple[float, float]]:
    """Train both encoders.

    Args:
        store: a prepared store.
        steps: number of updates.
        seed: of weights and samples.

    Returns:
        For each step the loss and its chance level: the loss where all similarities are equal.
    """
    torch.manual_seed(seed)
    # for full batches, a clip without a valid pair is replaced by one that has one
    pairs = PairDataset(store, split="train", objective=ObjectiveSettings(resample_invalid_pairs=True))
    sampler = StatelessBatchSampler(pairs, BATCH_CLIPS, seed=seed)
    loader = DataLoader(pairs, batch_sampler=sampler, collate_fn=collate_pairs)
    video, speech = make_embedder(), make_embedder()
    spectrogram = LogSpectrogram(SpectrogramSettings(rate_hz=pairs.settings.rate_hz, n_fft=256, frames=64))
    optimiser = torch.optim.AdamW([*video.parameters(), *speech.parameters()], lr=1e-3)
    history: list[tuple[float, float]] = []
    while len(history) < steps:
        for batch in loader:  # one epoch; the sampler continues with the next one by itself
            if not batch.pair_valid.any():
                raise SystemExit(f"{store}: no clip has enough speech; this example needs narrated scans")
            loss = contrastive_step(video, speech, spectrogram, batch)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            history.append((loss.item(), math.log(2 * batch.frames.size(1) * int(batch.pair_valid.sum()))))
            done, (value, chance) = len(history), history[-1]
            if done % 10 == 0 or done == steps:
                print(f"step {done} of {steps}: contrastive loss {value:.3f} (chance {chance:.3f})")
            if done == steps:
                break
    return history


def make_phantom_store(folder: Path) -> Path:
    """Make a phantom archive of four patients in `folder`, index and prepare it; return the store."""
    usvs.make_phantom(folder / "archive", patients=4, seed=0, settings=PhantomSettings(scan_seconds=16.0))
    usvs.index_archive(folder / "archive", folder / "store")
    usvs.prepare_store(folder / "store", profile="quick")
    return folder / "store"


def main() -> None:
    """Parse the command line, make a phantom where no store is given, and train."""
    parser = argparse.ArgumentParser(description="Contrastive learning with the datasets and operators of usvs.")
    parser.add_argument("store", nargs="?", type=Path, help="a prepared store; without it a small phantom is made")
    parser.add_argument("--steps", type=int, default=50, help="number of updates (50)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        history = train(arguments.store or make_phantom_store(Path(folder)), arguments.steps)
    last = history[-10:]
    loss, chance = (sum(values) / len(last) for values in zip(*last, strict=True))
    print(f"last {len(last)} steps: contrastive loss {loss:.3f}, chance {chance:.3f}")


if __name__ == "__main__":
    main()
