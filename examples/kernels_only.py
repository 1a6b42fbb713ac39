"""The two kernels on their own: a batch of log-spectrograms and a contrastive loss with its gradients.

Needs the core dependencies only (`pip install usvs`). Runs on the CPU, or on a CUDA device if there is one:

    python examples/kernels_only.py
"""

import time
from collections.abc import Callable

import torch
from torch.nn.functional import normalize

from usvs.ops import contrastive_loss, log_spectrogram

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SAMPLE_RATE_HZ = 24_000
PAIRS = 64


def time_call(function: Callable[[], torch.Tensor], repetitions: int = 20) -> tuple[torch.Tensor, float]:
    """Return the result of `function` and the median of its times in milliseconds."""
    result = function()
    milliseconds = []
    for _ in range(repetitions):
        started = time.perf_counter()
        result = function()
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        milliseconds.append(1e3 * (time.perf_counter() - started))
    return result, sorted(milliseconds)[repetitions // 2]


def main() -> None:
    """Run both kernels and print shapes and times."""
    torch.manual_seed(0)

    # 32 pieces of speech of 0.6 s each -> images of 256 frequency bands x 256 times, in natural-log units
    waveform = torch.randn(32, int(0.6 * SAMPLE_RATE_HZ), device=DEVICE)
    images, milliseconds = time_call(lambda: log_spectrogram(waveform))
    print(f"log_spectrogram   {tuple(waveform.shape)} -> {tuple(images.shape)}   {milliseconds:.2f} ms on {DEVICE}")

    # Anchors are video embeddings. Each has a positive (its speech) and a hard negative (speech of a later clip of the
    # same scan), and is compared with every candidate of the batch except itself.
    video, speech, later_speech = (
        normalize(torch.randn(PAIRS, 128, device=DEVICE), dim=1).requires_grad_() for _ in range(3)
    )
    self_index = torch.arange(PAIRS, device=DEVICE)

    def loss_with_gradients() -> torch.Tensor:
        video.grad = speech.grad = later_speech.grad = None
        candidates = torch.cat([video, speech, later_speech])
        loss = contrastive_loss(video, speech, later_speech, candidates, self_index, temperature=0.5).mean()
        loss.backward()
        return loss.detach()

    loss, milliseconds = time_call(loss_with_gradients)
    shapes = f"{tuple(video.shape)} anchors, {3 * PAIRS} candidates"
    print(f"contrastive_loss  {shapes} -> {loss:.3f}   {milliseconds:.2f} ms with gradients on {DEVICE}")
    assert video.grad is not None
    print(f"gradient of the anchors {tuple(video.grad.shape)}, norm {video.grad.norm():.4f}")


if __name__ == "__main__":
    main()
