"""The log-spectrogram: views, clips of a recording, `out`, threads, and arguments that it refuses."""

import math

import pytest
import torch

from tests.support.speech_like import speech_like
from usvs.ops import log_spectrogram

PIECES = {"waveform": torch.zeros(1000), "offsets": torch.tensor([0]), "length": 500}


def test_a_strided_view_is_read_in_place_and_equals_its_copy():
    recording = speech_like(1, 40_000)[0]
    pieces = recording.unfold(0, 14_400, 5000)
    assert torch.equal(log_spectrogram(pieces), log_spectrogram(pieces.contiguous()))
    every_other = speech_like(2, 8000)[:, ::2]
    assert torch.equal(log_spectrogram(every_other), log_spectrogram(every_other.contiguous()))


def test_pieces_of_a_recording_are_read_in_place_and_equal_their_copies(simd: str):
    recording = speech_like(1, 40_000)[0]
    offsets = torch.tensor([[0, -1], [25_600, -1], [7, -1], [7, -1], [20_001, -1]])[:, 0]  # not contiguous
    pieces = torch.stack([recording[offset : offset + 14_400] for offset in offsets])
    assert torch.equal(log_spectrogram(recording, offsets=offsets, length=14_400), log_spectrogram(pieces))
    every_other = torch.stack([recording, recording], dim=1)[:, 0]
    assert torch.equal(log_spectrogram(every_other, offsets=offsets, length=14_400), log_spectrogram(pieces))
    outside = recording.clone()
    outside[14_400:20_000] = math.nan  # clips do not depend on samples outside of them
    assert torch.equal(log_spectrogram(outside, offsets=offsets[:1], length=14_400), log_spectrogram(pieces[:1]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_out_is_written_completely_and_nothing_outside_it(simd: str, dtype: torch.dtype):
    # 40 clips are large enough for streaming stores, 2 are not; one of the views has an unaligned address.
    for clips, frames, shift in ((2, 256, 0), (40, 256, 0), (40, 256, 1), (40, 252, 0), (2, 7, 3)):
        waveform = speech_like(clips, 4000)
        elements = clips * 256 * frames
        memory = torch.full((elements + 64,), 7.0, dtype=dtype)
        out = memory[16 + shift : 16 + shift + elements].view(clips, 1, 256, frames)
        result = log_spectrogram(waveform, frames=frames, out=out)
        assert result.data_ptr() == out.data_ptr()
        assert torch.equal(result, log_spectrogram(waveform, frames=frames, dtype=dtype))
        assert (memory[: 16 + shift] == 7).all() and (memory[16 + shift + elements :] == 7).all()


def test_no_clips_and_no_gradient():
    assert log_spectrogram(torch.zeros(0, 1000)).shape == (0, 1, 256, 256)
    nothing = torch.zeros(0, 1000, requires_grad=True)
    log_spectrogram(nothing).sum().backward()
    assert nothing.grad is not None and nothing.grad.shape == (0, 1000)


def test_no_clips_take_no_time_for_any_number_of_columns():
    most = 2**31 - 1  # a table of the columns would hold 24 GB
    assert log_spectrogram(torch.zeros(0, 1000), frames=most).shape == (0, 1, 256, most)
    recording = torch.zeros(2000, requires_grad=True)
    none = torch.zeros(0, dtype=torch.int64)
    log_spectrogram(recording, frames=most, offsets=none, length=1000).sum().backward()
    assert recording.grad is not None and (recording.grad == 0).all()


def test_out_in_the_memory_of_an_input_is_refused():
    memory = torch.randn(256 * 256 + 2000, generator=torch.Generator().manual_seed(4))
    out = memory[: 256 * 256].view(1, 1, 256, 256)
    message = r"usvs::log_spectrogram: out: expected memory that is not that of %s, got memory that overlaps it"
    inside, across = memory[100:1100][None], memory[256 * 256 - 1 : 256 * 256 + 999][None]
    for waveform in (inside, across, memory[::2][:1000][None], memory[:3000].view(3, 1000).t()[:, :1].t()):
        with pytest.raises(RuntimeError, match=message % "waveform"):
            log_spectrogram(waveform, out=out)
    offsets = memory.view(torch.int64)[:1].fill_(0)
    with pytest.raises(RuntimeError, match=message % "offsets"):
        log_spectrogram(torch.zeros(1000), offsets=offsets, length=500, out=out)
    beside = memory[256 * 256 :][:1000][None]
    assert torch.equal(log_spectrogram(beside, out=out), log_spectrogram(beside.clone()))


def test_out_on_another_device_is_refused():
    # The dispatcher sends a call with such tensors elsewhere, so the CPU kernel is called by name.
    keys = torch._C.DispatchKeySet(torch._C.DispatchKey.CPU)
    out = torch.empty(1, 1, 256, 256, device="meta")
    with pytest.raises(RuntimeError, match="out: expected the CPU, where waveform is, got another kind of device"):
        torch.ops.usvs.log_spectrogram.out.redispatch(keys, torch.zeros(1, 1000), out=out)


def test_the_same_bits_for_any_number_of_threads_and_any_batch():
    waveform = speech_like(5, 30_000).requires_grad_()
    threads = torch.get_num_threads()
    results = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        spectrogram = log_spectrogram(waveform)
        (gradient,) = torch.autograd.grad(spectrogram.square().sum(), waveform)
        results.append((spectrogram.detach(), gradient))
    torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for other in results[1:] for a, b in zip(results[0], other, strict=True))
    assert torch.equal(log_spectrogram(waveform.detach()[3:4]), results[0][0][3:4])


def test_streaming_a_large_result_changes_nothing(simd: str):
    waveform = speech_like(40, 4000)  # 10 MB of result
    complete = log_spectrogram(waveform)
    assert torch.equal(complete[17:19], log_spectrogram(waveform[17:19]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"waveform": torch.zeros(2, 120)}, "waveform: expected more than 120 samples, half a window .* got 120"),
        ({"waveform": torch.zeros(1000)}, r"waveform: expected shape \[any, any\], got \[1000\]"),
        ({"waveform": torch.zeros(1, 1000, dtype=torch.int16)}, "waveform: expected float32 or float64, got Short"),
        ({"n_fft": 500}, "n_fft: expected a power of two, got 500"),
        ({"n_fft": 32}, r"n_fft: expected 64 \.\.\. 4096, got 32"),
        ({"win_length": 513}, r"win_length: expected 1 \.\.\. 512, got 513"),
        ({"hop_length": 0}, "hop_length: expected 1 .* got 0"),
        ({"frames": 0}, "frames: expected 1 .* got 0"),
        ({"eps": 0.0}, "eps: expected a finite normal number above 0, got 0"),
        ({"eps": math.nan}, "eps: .* got nan"),
        ({"offsets": torch.tensor([0])}, "length: expected one beside offsets, got none"),
        ({"length": 500}, "offsets: expected some beside length, got none"),
        (
            {**PIECES, "waveform": torch.zeros(1, 1000)},
            r"waveform: expected shape \[any\] beside offsets, got \[1, 1000\]",
        ),
        ({**PIECES, "offsets": torch.tensor([1.0])}, "offsets: expected Long, got Float"),
        ({**PIECES, "offsets": torch.tensor(1)}, r"offsets: expected shape \[any\], got \[\]"),
        ({**PIECES, "offsets": torch.tensor([0, 501])}, r"offsets: expected 0 \.\.\. 500, got 501"),
        ({**PIECES, "offsets": torch.tensor([-1, 0])}, r"offsets: expected 0 \.\.\. 500, got -1"),
        ({**PIECES, "length": 1001}, r"length: expected 1 \.\.\. 1000, got 1001"),
        ({**PIECES, "length": 120}, "length: expected more than 120 samples"),
        ({"dtype": torch.float64}, "dtype: expected Float or BFloat16, got Double"),
        ({"waveform": torch.zeros(1, 1000).double(), "dtype": torch.bfloat16}, "dtype: expected Double, got BFloat16"),
        ({"out": torch.zeros(1, 1, 256, 255)}, r"out: expected shape \[1, 1, 256, 256\], got \[1, 1, 256, 255\]"),
        ({"out": torch.zeros(1, 1, 256, 256).half()}, "dtype: expected Float or BFloat16, got Half"),
        ({"out": torch.zeros(1, 1, 256, 512)[..., ::2]}, "out: expected a contiguous tensor, got one with gaps"),
        ({"out": torch.zeros(1, 1, 256, 256), "dtype": torch.bfloat16}, "dtype: expected that of out"),
        (
            {"out": torch.zeros(1, 1, 256, 256), "waveform": torch.zeros(1, 1000, requires_grad=True)},
            "out: expected no gradient",
        ),
    ],
)
def test_invalid_arguments_raise(arguments: dict, message: str):
    with pytest.raises(RuntimeError, match="usvs::log_spectrogram: " + message):
        log_spectrogram(**{"waveform": torch.zeros(1, 1000), **arguments})


def test_out_that_would_not_be_written_or_needs_a_gradient_is_refused():
    waveform, out = torch.randn(2, 2000), torch.zeros(2, 1, 256, 256)
    with pytest.raises(RuntimeError, match="out: expected the device of waveform, got one of them on 'meta'"):
        log_spectrogram(waveform.to("meta"), out=out)
    with pytest.raises(RuntimeError, match="out: expected no gradient through it, got a waveform or an out"):
        log_spectrogram(waveform, out=out.requires_grad_())
