"""A straightforward implementation of the paper: a dataset that decodes mp4, torchaudio, eager modules, a plain loss.

The networks are the same plain modules and the samples are the same ones, so that both learn the same thing. What
differs is how: every sample opens its files, the spectrogram is made per piece in the loader's processes, each pair has
a forward of its own (a frame goes through its network once with its own speech and once with the other), the order
frames another, the similarity matrix is materialised, and nothing is cast or laid out.
"""

from collections.abc import Iterator
from pathlib import Path

import av
import cv2
import numpy as np
import torch
import torchaudio
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from usvs.audio.spectrogram import LEAST_SCALE, LOG_POWER_MEAN, LOG_POWER_SCALE
from usvs.data.sampling_plan import SamplingPlan
from usvs.models.two_stream import TwoStream
from usvs.store.catalogue import Catalogue
from usvs.store.folder import read_archive_path
from usvs.tasks.pretraining.settings import PretrainSettings

GRAY_MEAN = GRAY_SPREAD = 0.25


class ScanDataset(Dataset):  # type: ignore[type-arg]
    """Sample g of an epoch: frames, order frames, both spectrograms, whether the pair counts, and the order's class."""

    def __init__(self, store: Path, plan: SamplingPlan, settings: PretrainSettings, keys: list[str]) -> None:
        self.plan, self.settings, self.epoch = plan, settings, 0
        rows = {row["scan_key"]: row for row in Catalogue.load(store).scans.to_pylist()}
        self.scans = [rows[key] for key in keys]
        self.archive = read_archive_path(store)
        spectrogram = settings.spectrogram
        self.spectrogram = torchaudio.transforms.Spectrogram(
            n_fft=spectrogram.n_fft, win_length=spectrogram.win_length, hop_length=spectrogram.hop_length
        )

    def __len__(self) -> int:
        return self.plan.steps_per_epoch * self.plan.batch_size

    def __getitem__(self, g: int) -> tuple[Tensor, ...]:
        """Decode one clip."""
        sample = self.plan.samples(self.epoch, [g])
        groups = self.settings.clips.groups_per_clip
        assert sample.pair_clip[0] == sample.clip[0], "one clip is decoded for its pairs and its order task"
        moments = np.concatenate([sample.frame_seconds[0], sample.order_seconds[0]])
        frames = self.frames(self.scans[int(sample.scan[0])], moments)
        random = np.random.default_rng(int(sample.augment_key[0]))
        shown = [self.augment(frame, random) for frame in frames[:groups]]
        state = random.bit_generator.state
        for frame in frames[groups:]:  # the four order frames are varied as one
            random.bit_generator.state = state
            shown.append(self.augment(frame, random))
        speech = self.pieces(sample.speech_scan[0], sample.speech_start_seconds[0])
        negative = self.pieces(sample.negative_scan[0], sample.negative_start_seconds[0])
        images = torch.stack(shown)
        return (
            images[:groups],
            images[groups:],
            speech,
            negative,
            torch.tensor(bool(sample.pair_valid[0])),
            torch.tensor(int(sample.order_class[0])),
        )

    def frames(self, scan: dict[str, object], moments: np.ndarray) -> list[np.ndarray]:  # type: ignore[type-arg]
        """Seek, decode up to the last moment, keep the nearest frame of each."""
        nearest: list[tuple[float, np.ndarray | None]] = [(np.inf, None)] * len(moments)  # type: ignore[type-arg]
        with av.open(str(self.archive / str(scan["path"]))) as container:
            stream = container.streams.video[0]
            first = float(stream.start_time * stream.time_base)
            container.seek(int((moments.min() + first) / stream.time_base), stream=stream)
            for frame in container.decode(stream):
                seconds = float(frame.pts * stream.time_base) - first
                apart = np.abs(moments - seconds)
                expected = [i for i, (best, _) in enumerate(nearest) if apart[i] < best]
                if expected:
                    picture = frame.to_ndarray(format="gray")
                    for i in expected:
                        nearest[i] = (apart[i], picture)
                if seconds > moments.max():
                    break
        left, top, right, bottom = (int(str(scan[f"sector_{s}"])) for s in ("left", "top", "right", "bottom"))
        return [picture[top:bottom, left:right] for _, picture in nearest if picture is not None]

    def augment(self, frame: np.ndarray, random: np.random.Generator) -> Tensor:  # type: ignore[type-arg]
        """Crop, mirror, change the gain, resize, standardise."""
        augment, pixels = self.settings.augment, self.settings.model.frame_pixels
        height, width = (round(side * augment.crop_fraction) for side in frame.shape)
        top, left = random.integers(frame.shape[0] - height + 1), random.integers(frame.shape[1] - width + 1)
        flip, gain = random.random() < 0.5, 10 ** (random.uniform(-augment.gain_db, augment.gain_db) / 20)
        window = cv2.resize(frame[top : top + height, left : left + width], (pixels, pixels))
        if flip:
            window = window[:, ::-1]
        image = torch.from_numpy(np.ascontiguousarray(window)).float() / 255
        return (((image * gain).clamp(max=1.0) - GRAY_MEAN) / GRAY_SPREAD)[None]

    def pieces(self, scans: np.ndarray, starts: np.ndarray) -> Tensor:  # type: ignore[type-arg]
        """Standardised log-spectrograms [K, 1, bands, time]; zeros where there is no sound."""
        spectrogram = self.settings.spectrogram
        pool = spectrogram.pool
        result = torch.zeros(len(scans), 1, spectrogram.bands // pool, spectrogram.frames // pool)
        for row, (scan, start) in enumerate(zip(scans.tolist(), starts.tolist(), strict=True)):
            if scan >= 0:
                power = self.spectrogram(self.sound(self.scans[scan], start))[1:]  # the constant band dropped
                logarithm = torch.log(power + spectrogram.eps)[None, None]
                size = (spectrogram.bands, spectrogram.frames)
                resized = F.interpolate(logarithm, size=size, mode="bilinear", align_corners=False)
                if spectrogram.standardise == "piece":
                    resized = (resized - resized.mean()) / (resized.std(unbiased=False) + LEAST_SCALE)
                else:
                    resized = (resized - LOG_POWER_MEAN) / LOG_POWER_SCALE
                result[row] = F.avg_pool2d(resized, pool)[0]
        return result

    def sound(self, scan: dict[str, object], start: float) -> Tensor:
        """Seek, decode one piece, mix down and resample."""
        seconds, rate = self.settings.clips.speech_seconds, self.settings.spectrogram.rate_hz
        samples, begin = [], None
        with av.open(str(self.archive / str(scan["path"]))) as container:
            stream = container.streams.audio[0]
            container.seek(int(max(start - 0.1, 0) / stream.time_base), stream=stream)
            for frame in container.decode(stream):
                begin = float(frame.pts * stream.time_base) if begin is None else begin
                samples.append(frame.to_ndarray().mean(axis=0))
                if frame.pts * stream.time_base + frame.samples / stream.rate > start + seconds:
                    break
            source = stream.rate
        joined = np.concatenate(samples)
        offset = max(round((start - (begin or 0.0)) * source), 0)
        piece = torch.from_numpy(joined[offset : offset + round(seconds * source)]).float()
        resampled = torchaudio.functional.resample(piece, source, rate)
        expected = round(seconds * rate)
        return F.pad(resampled, (0, max(expected - len(resampled), 0)))[:expected]


class StraightforwardModel(nn.Module):
    """Both streams, eagerly, a pair at a time."""

    def __init__(self, settings: PretrainSettings) -> None:
        super().__init__()
        self.streams = TwoStream(settings.model)
        self.objective = settings.objective

    def pair(self, frames: Tensor, speech: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits and both embeddings of frames with speech."""
        maps, speech_features = self.streams.video.forward_features(frames), self.streams.speech(speech)
        video, grid = maps.mean((2, 3)), self.streams.projection_grid
        logits = self.streams.correspondence(video, speech_features)
        seen = F.adaptive_avg_pool2d(maps, grid).flatten(1) if grid > 1 else video
        return logits, self.streams.project_video(seen), self.streams.project_speech(speech_features)

    def forward(
        self, frames: Tensor, order: Tensor, speech: Tensor, negative: Tensor, valid: Tensor, classes: Tensor
    ) -> Tensor:
        """Return Eq. 3."""
        chosen = self.objective
        frames, speech, negative = (part[valid].flatten(0, 1) for part in (frames, speech, negative))
        maps = self.streams.video.forward_features(order.flatten(0, 1)).unflatten(0, order.shape[:2])
        total = chosen.order_weight * F.cross_entropy(self.streams.order(maps), classes)
        if len(frames) == 0:
            return total
        positive_logits, video, positive = self.pair(frames, speech)
        negative_logits, _, hard = self.pair(frames, negative)
        logits = torch.cat([positive_logits, negative_logits])
        labels = torch.cat([torch.ones(len(frames)), torch.zeros(len(frames))]).long()
        total = total + chosen.correspondence_weight * F.cross_entropy(logits, labels)
        return total + chosen.contrastive_weight * self.contrastive(video, positive, hard)

    def contrastive(self, video: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        """Return Eq. 2 over the materialised similarities."""
        chosen = self.objective
        if chosen.normalise:
            video, positive, negative = (F.normalize(part, dim=1) for part in (video, positive, negative))
        own = (video * positive).sum(1) / chosen.temperature
        others = [video, positive, negative] if chosen.candidates == "all" else [positive, negative]
        similarity = video @ torch.cat(others).T / chosen.temperature
        if chosen.candidates == "all":
            itself = torch.eye(len(video), len(similarity[0]), dtype=torch.bool)
            similarity = similarity.masked_fill(itself, float("-inf"))
        loss = torch.logsumexp(similarity, dim=1) - own
        if chosen.form == "eq2":
            margin = own - (video * negative).sum(1) / chosen.temperature
            touching = margin.clamp_min(chosen.margin_floor)
            slope = 1 / np.expm1(chosen.margin_floor)
            loss = loss - torch.log(-torch.expm1(-touching)) - (margin - touching) * slope
        return loss.mean()


def batches(dataset: ScanDataset, workers: int) -> Iterator[list[Tensor]]:
    """Go through epochs without end."""
    while True:
        yield from DataLoader(dataset, dataset.plan.batch_size, num_workers=workers, drop_last=True)
        dataset.epoch += 1
