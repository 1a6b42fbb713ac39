"""The CUDA log-spectrogram, forward and backward, in the emulator: against the plain reference in float64."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.simt.emulate import Argument, Build, Out, Result, available, build, run, schedules
from usvs.ops import log_spectrogram_reference

pytestmark = [
    pytest.mark.compile,
    pytest.mark.skipif(not available(), reason="no C++ compiler here: kernels are not emulated"),
]


@dataclasses.dataclass(frozen=True)
class Shape:
    """A case: what is transformed how, and the memory layout of the waveform."""

    n_fft: int
    win_length: int
    hop_length: int
    samples: int
    frames: int
    clips: int = 2
    first: int = 0  # samples before the first clip: alignment
    gap: int = 0  # samples between clips

    @property
    def settings(self) -> tuple[int, int, int, int]:
        return self.n_fft, self.win_length, self.hop_length, self.frames


PAPER = Shape(512, 240, 120, 14_400, 256, clips=1)
# Every FFT size; windows full, half, odd, of one sample; hops that overlap, meet, leave gaps; the shortest waveform;
# time stretched, kept, shrunk; tiles of columns full, ragged, sparse; rows that begin at odd places.
SHAPES = [
    Shape(64, 64, 16, 33, 40),
    Shape(64, 5, 7, 300, 1, first=3),
    Shape(64, 33, 9, 1500, 150, gap=1),
    Shape(128, 1, 3, 65, 22),
    Shape(128, 64, 64, 1000, 31, gap=5),
    Shape(256, 255, 100, 3000, 64, first=1),
    Shape(512, 240, 120, 4321, 77, clips=3, gap=7),
    Shape(512, 256, 700, 5000, 9),
    Shape(512, 257, 60, 3000, 97, clips=1),
    Shape(512, 511, 40, 2700, 12, clips=1),
    Shape(1024, 600, 1, 513, 600, clips=1),
    Shape(1024, 1000, 111, 2500, 41, clips=1, first=1),
    Shape(2048, 2048, 512, 9000, 19),
    Shape(4096, 1000, 333, 2049, 8),
    Shape(4096, 4096, 700, 9000, 40, clips=1),
    Shape(4096, 4095, 5000, 20_000, 7, clips=1, first=1),
    PAPER,
]
# Small enough for ThreadSanitizer, and with more than one round of frames.
SMALL = [
    Shape(64, 33, 9, 700, 70, clips=1, gap=1),
    Shape(512, 240, 65, 1700, 50, clips=2, first=1),
    Shape(2048, 1500, 400, 1700, 8, clips=1),
]
names = pytest.mark.parametrize("shape", SHAPES, ids=str)
EPS = 1e-6


def waveform_of(shape: Shape, seed: int = 1) -> np.ndarray:
    generator = np.random.default_rng(seed)
    count = shape.first + shape.clips * shape.samples + (shape.clips - 1) * shape.gap
    return (0.1 * generator.standard_normal(count)).astype(np.float32)


def clips_of(waveform: np.ndarray, shape: Shape) -> Tensor:
    """[clips, samples] in float64: what the kernel finds in `waveform`."""
    stride = shape.samples + shape.gap
    starts = [shape.first + i * stride for i in range(shape.clips)]
    return torch.from_numpy(np.stack([waveform[s : s + shape.samples] for s in starts]).astype(np.float64))


def arguments_of(waveform: np.ndarray, shape: Shape, bfloat16: bool = False, eps: float = EPS) -> dict[str, Argument]:
    fields = dataclasses.asdict(shape)
    stride = shape.samples + fields.pop("gap")
    return {**fields, "waveform": waveform, "waveform_stride": stride, "recording_samples": 0, "bfloat16": bfloat16,
            "eps": eps}  # fmt: skip


def forward(
    shape: Shape,
    waveform: np.ndarray,
    kind: Build = Build.PLAIN,
    count: int = 1,
    bfloat16: bool = False,
    **more: Argument,
) -> Result:
    output = Out((shape.clips, 1, shape.n_fft // 2, shape.frames), np.uint16 if bfloat16 else np.float32)
    arguments = arguments_of(waveform, shape, bfloat16) | {"output": output} | more
    return run(build(kind, "log_spectrogram"), "forward", arguments, schedules(count))


def backward(shape: Shape, waveform: np.ndarray, grad: np.ndarray, kind: Build = Build.PLAIN, count: int = 1) -> Result:
    arguments = arguments_of(waveform, shape, eps=1e-3)
    arguments |= {"output_grad": grad, "waveform_grad": Out((shape.clips, shape.samples))}
    return run(build(kind, "log_spectrogram"), "backward", arguments, schedules(count))


def reference_gradient(clips: Tensor, grad: np.ndarray, shape: Shape) -> Tensor:
    leaf = clips.clone().requires_grad_()
    picture = log_spectrogram_reference(leaf, *shape.settings, 1e-3)
    (gradient,) = torch.autograd.grad(picture, leaf, torch.from_numpy(grad.astype(np.float64)))
    return gradient


def grad_of(shape: Shape) -> np.ndarray:
    size = (shape.clips, 1, shape.n_fft // 2, shape.frames)
    return np.random.default_rng(2).standard_normal(size).astype(np.float32)


@names
def test_forward_equals_the_reference(shape: Shape):
    waveform = waveform_of(shape)
    output = torch.from_numpy(forward(shape, waveform)["output"]).double()
    error = (output - log_spectrogram_reference(clips_of(waveform, shape), *shape.settings, EPS)).abs()
    assert error.max() < 1e-3, "nearly empty bins are uncertain in float32, but not by more"
    assert error.mean() < 2e-6


@names
def test_gradient_equals_the_references(shape: Shape):
    waveform, grad = waveform_of(shape), grad_of(shape)
    gradient = torch.from_numpy(backward(shape, waveform, grad)["waveform_grad"]).double()
    expected = reference_gradient(clips_of(waveform, shape), grad, shape)
    error = gradient - expected
    assert error.norm() < 1e-3 * expected.norm()
    assert error.abs().max() < 1e-2 * expected.abs().max()


def test_float32_is_as_exact_as_it_can_be():
    waveform = waveform_of(PAPER, seed=3)
    output = torch.from_numpy(forward(PAPER, waveform)["output"]).double()
    error = (output - log_spectrogram_reference(clips_of(waveform, PAPER), *PAPER.settings, EPS)).abs()
    assert error.max() < 1e-4
    assert error.mean() < 3e-7


@pytest.mark.parametrize("shape", [PAPER, *SMALL], ids=str)
def test_bfloat16_is_float32_rounded(shape: Shape):
    waveform = waveform_of(shape)
    rounded = torch.from_numpy(forward(shape, waveform, bfloat16=True)["output"].view(np.int16)).view(torch.bfloat16)
    assert torch.equal(rounded, torch.from_numpy(forward(shape, waveform)["output"]).bfloat16())


def pieces(shape: Shape, offsets: list[int], recording: np.ndarray) -> tuple[np.ndarray, dict[str, Argument]]:
    clips = np.stack([recording[at : at + shape.samples] for at in offsets])
    return clips, {"offsets": np.array(offsets, np.int64), "recording_samples": len(recording)}


PIECES = Shape(512, 240, 120, 1500, 20, clips=4)
OFFSETS = [2100, 17, 3500, 1201]  # clips that overlap, in no order, at odd places; some samples are in none


def test_pieces_at_offsets_equal_their_copies():
    recording = waveform_of(Shape(512, 240, 120, 5000, 20, clips=1))
    clips, where = pieces(PIECES, OFFSETS, recording)
    assert (forward(PIECES, recording, **where)["output"] == forward(PIECES, clips)["output"]).all()


@pytest.mark.parametrize("kind", Build)
def test_the_gradient_of_a_recording_is_the_sum_over_its_pieces(kind: Build):
    recording = waveform_of(Shape(512, 240, 120, 5000, 20, clips=1))
    clips, where = pieces(PIECES, OFFSETS, recording)
    grad = grad_of(PIECES)
    expected = torch.zeros(len(recording), dtype=torch.float64)
    each = reference_gradient(torch.from_numpy(clips.astype(np.float64)), grad, PIECES)
    for at, gradient in zip(OFFSETS, each, strict=True):
        expected[at : at + PIECES.samples] += gradient
    arguments = arguments_of(recording, PIECES, eps=1e-3) | where
    arguments |= {"output_grad": grad, "waveform_grad": Out((len(recording),))}
    result = run(build(kind, "log_spectrogram"), "backward", arguments, schedules(2))
    error = torch.from_numpy(result["waveform_grad"]).double() - expected
    assert error.norm() < 1e-3 * expected.norm()
    assert (result["waveform_grad"][expected.numpy() == 0] == 0).all()


def test_the_gradient_of_a_recording_without_pieces_is_zero():
    none = dataclasses.replace(PIECES, clips=0)
    arguments = arguments_of(waveform_of(PAPER)[:5000], none) | {"recording_samples": 5000}
    arguments |= {"output_grad": np.zeros(0, np.float32), "waveform_grad": Out((5000,))}
    assert (run(build(Build.PLAIN, "log_spectrogram"), "backward", arguments)["waveform_grad"] == 0).all()


@pytest.mark.parametrize("kind", [Build.PLAIN, Build.MEMORY])
def test_a_piece_outside_of_the_recording_is_nan_and_is_not_read(kind: Build):
    recording = waveform_of(Shape(512, 240, 120, 5000, 20, clips=1))
    _, where = pieces(PIECES, OFFSETS, recording)
    clean, grad = forward(PIECES, recording, kind, **where)["output"], grad_of(PIECES)

    def gradient(offsets: np.ndarray, output_grad: np.ndarray) -> np.ndarray:
        arguments = arguments_of(recording, PIECES, eps=1e-3) | where | {"offsets": offsets}
        arguments |= {"output_grad": output_grad, "waveform_grad": Out((len(recording),))}
        return run(build(kind, "log_spectrogram"), "backward", arguments)["waveform_grad"]

    grad[2] = 0  # of the piece that will be outside
    expected = gradient(np.array(OFFSETS), grad)
    grad[2] = 1
    for bad in (3501, -1, -(2**40), 2**40, 2**62):
        offsets = np.array([*OFFSETS[:2], bad, OFFSETS[3]], np.int64)
        output = forward(PIECES, recording, kind, **where | {"offsets": offsets})["output"]
        assert np.isnan(output[2]).all()
        assert (output[[0, 1, 3]] == clean[[0, 1, 3]]).all()
        np.testing.assert_array_equal(gradient(offsets, grad), expected)


@pytest.mark.parametrize("shape", SMALL, ids=str)
def test_twenty_schedules_leave_the_same_bits(shape: Shape):
    waveform = waveform_of(shape)
    forward(shape, waveform, count=20)
    backward(shape, waveform, grad_of(shape), count=20)


@pytest.mark.parametrize("kind", [Build.MEMORY, Build.RACE])
@pytest.mark.parametrize("shape", SMALL, ids=str)
def test_no_access_out_of_bounds_and_no_race(shape: Shape, kind: Build):
    waveform = waveform_of(shape)
    forward(shape, waveform, kind, count=2)
    backward(shape, waveform, grad_of(shape), kind)


@pytest.mark.parametrize("shape", SHAPES[:-1], ids=str)
def test_no_access_out_of_bounds(shape: Shape):
    waveform = waveform_of(shape)
    forward(shape, waveform, Build.MEMORY)
    forward(shape, waveform, Build.MEMORY, bfloat16=True)
    backward(shape, waveform, grad_of(shape), Build.MEMORY)


def test_silence_is_the_logarithm_of_eps_and_a_bad_sample_reaches_only_its_frames():
    shape = Shape(512, 240, 120, 14_400, 121, clips=2)
    waveform = waveform_of(shape)
    waveform[shape.samples :] = 0
    clean = forward(shape, waveform)["output"]
    np.testing.assert_allclose(clean[1], np.log(np.float32(EPS)), rtol=1e-6)
    for bad in (np.nan, np.inf):
        waveform[7260] = bad  # in the windows of frames 60 and 61 alone
        picture = forward(shape, waveform)["output"]
        untouched = np.r_[0:60, 62:121]
        assert (picture[0, 0][:, untouched] == clean[0, 0][:, untouched]).all()
        assert np.isnan(picture[0, 0][:, 60:62]).all()


def test_a_power_that_overflows_with_eps_is_nan():
    # More columns than frames: where a column is at a frame, 0 times an infinite logarithm would be NaN as well.
    shape = Shape(512, 240, 120, 4800, 60, clips=1)
    waveform = waveform_of(shape)
    waveform = np.float32(1.2e18) * np.sign(waveform)  # powers around 2e38
    expected = log_spectrogram_reference(clips_of(waveform, shape).float(), *shape.settings, 1.7e38).numpy()
    picture = forward(shape, waveform, eps=1.7e38)["output"]
    assert np.isnan(expected).any() and np.isfinite(expected).any() and not np.isinf(picture).any()
    assert (np.isnan(picture) == np.isnan(expected)).mean() > 0.99  # at the limit either


def test_a_column_that_is_at_a_frame_reads_that_frame_alone():
    shape = Shape(512, 100, 120, 5800, 49, clips=1)  # as many columns as frames; 49 (1 / 49) is below one in float64
    waveform = waveform_of(shape)
    waveform[[7, 10 * 120, 30 * 120]] = np.nan  # in the window of one frame each
    touched = ~np.isfinite(forward(shape, waveform)["output"][0, 0]).all(axis=0)
    assert np.flatnonzero(touched).tolist() == [0, 10, 30]


def test_a_clip_that_is_too_long_is_refused():
    with pytest.raises(AssertionError, match="clips of less than 2\\^30 samples, got 1073741824"):
        forward(Shape(64, 64, 16, 1, 1, clips=1), np.zeros(1, np.float32), samples=1 << 30)
