"""Which clips are high-affinity: the energy detector against known speech times, beside Silero and WebRTC.

    python -m benchmarks.bench_voice_activity OUT.json [--prompts FOLDER] [--minutes 6]

Speech is espeak-ng's, three voices, or recorded prompts: FOLDER holds .wav files, such as those of Debian's
asterisk-core-sounds-en-wav. It is inserted into silence at known times and mixed with hum, clicks or room noise, 20, 10
and 5 dB below the level of the speech. A clip of 2 s is high-affinity if at least half of it is an utterance.
The last column is the narration of phantom scans as recorded by their simulated microphones; there a pause
inside an utterance is not speech.
Comparators are skipped if they are not installed: `pip install webrtcvad-wheels`, and
`pip install --no-deps silero-vad` (its own requirements would replace torch).
"""

import argparse
import json
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
import torch

from usvs.audio.settings import VoiceActivitySettings
from usvs.audio.voice_activity import voice_activity
from usvs.narration.voice import Speakers, draw_voice
from usvs.phantom.scan import PhantomScan
from usvs.phantom.settings import PhantomSettings
from usvs.training.environment import describe_environment

RATE_HZ, CLIP_SECONDS, HIGH = 16_000, 2.0, 0.5
SNRS_DB = (20, 10, 5)
PHANTOM_ROOMS = 8
SENTENCES = (
    "here we have the four chamber view of the heart",
    "now I am going to measure the femur",
    "that is the stomach bubble, and the umbilical vein",
    "baby is moving a lot today",
    "can you turn a little to your left please",
    "this is the cerebellum, shaped like a dumbbell",
    "and there are the kidneys on both sides of the spine",
    "lovely profile, nose and lips",
)
Detector = Callable[[np.ndarray], np.ndarray]  # samples at 16 kHz -> True per 10 ms
AudioDecodeStats = list[tuple[np.ndarray, np.ndarray]]  # recordings, and for each 10 ms whether somebody speaks


def utterances(prompts: Path | None, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield spoken pieces at 16 kHz, without end."""
    if prompts is not None:
        files = sorted(prompts.rglob("*.wav"))
        while True:
            sound, rate = soundfile.read(files[rng.integers(len(files))], dtype="float32")
            if len(sound) > 0.6 * rate:
                yield soxr.resample(sound, rate, RATE_HZ)
    with Speakers([draw_voice(5, sonographer) for sonographer in range(3)]) as speakers:
        spoken = [
            soxr.resample(speakers.synthesize(text, speaker), speakers.rate_hz, RATE_HZ)
            for speaker in range(3)
            for text in SENTENCES
        ]
    while True:
        yield spoken[rng.integers(len(spoken))]


def talk(seconds: float, prompts: Path | None, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return clean talk with pauses, and for each 10 ms whether it is in an utterance."""
    rng = np.random.default_rng(seed)
    sound, spoken = np.zeros(round(seconds * RATE_HZ), np.float32), np.zeros(round(seconds * 100), bool)
    moment = 1.0
    for piece in utterances(prompts, rng):
        first = round(moment * RATE_HZ)
        if first + len(piece) >= len(sound):
            return sound, spoken
        sound[first : first + len(piece)] = 0.1 * piece / np.sqrt(np.mean(piece**2))
        spoken[round(moment * 100) : round((moment + len(piece) / RATE_HZ) * 100)] = True
        moment += len(piece) / RATE_HZ + rng.exponential(2.0) + 0.2
    raise AssertionError("utterances never end")


def hum(samples: int, rng: np.random.Generator) -> np.ndarray:
    time = np.arange(samples) / RATE_HZ
    return sum(np.sin(2 * np.pi * 50 * k * time + rng.uniform(0, 6)) / k for k in (1, 2, 3, 4)) + 0.02 * room(
        samples, rng
    )


def clicks(samples: int, rng: np.random.Generator) -> np.ndarray:
    """Buttons: bursts of 3 to 12 ms, three in two seconds, over a faint room."""
    noise = 0.02 * room(samples, rng)
    for first in rng.integers(0, samples - 400, round(1.5 * samples / RATE_HZ)):
        length = round(rng.uniform(0.003, 0.012) * RATE_HZ)
        noise[first : first + length] += rng.standard_normal(length) * np.exp(-np.arange(length) / (0.2 * length)) * 8
    return noise


def room(samples: int, rng: np.random.Generator) -> np.ndarray:
    """Ventilation: noise that falls by 6 dB an octave above 200 Hz, and hiss."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    frequency = np.fft.rfftfreq(samples, 1 / RATE_HZ)
    low = np.fft.irfft(spectrum / np.maximum(frequency, 200), samples)
    return low / low.std() + 0.1 * rng.standard_normal(samples)


def mixed(kind: Callable[[int, np.random.Generator], np.ndarray], clean: np.ndarray, snr_db: float) -> np.ndarray:
    noise = kind(len(clean), np.random.default_rng(2))
    noise *= np.sqrt(np.mean(clean[clean != 0] ** 2) / np.mean(noise**2)) * 10 ** (-snr_db / 20)
    return np.clip(clean + noise, -1, 1).astype(np.float32)


def phantom_narration() -> AudioDecodeStats:
    sounds = [PhantomScan(seed, 1, 1, PhantomSettings()).sounds() for seed in range(PHANTOM_ROOMS)]
    return [
        (soxr.resample(sound.recorded, sound.narration.rate_hz, RATE_HZ), sound.narration.speech) for sound in sounds
    ]


def by_webrtc(aggressiveness: int) -> Detector | None:
    try:
        import webrtcvad
    except ImportError:
        return None

    def detect(sound: np.ndarray) -> np.ndarray:
        vad = webrtcvad.Vad(aggressiveness)
        whole = sound[: len(sound) // 160 * 160]
        frames = np.clip(whole * 32768, -32768, 32767).astype(np.int16).reshape(-1, RATE_HZ // 100)
        return np.array([vad.is_speech(frame.tobytes(), RATE_HZ) for frame in frames])

    return detect


def by_silero() -> Detector | None:
    found = find_spec("silero_vad")
    if found is None or found.origin is None:
        return None
    model: Any = torch.jit.load(str(Path(found.origin).parent / "data" / "silero_vad.jit"))

    def detect(sound: np.ndarray) -> np.ndarray:
        model.reset_states()
        pieces = torch.from_numpy(sound[: len(sound) // 512 * 512].astype(np.float32)).view(-1, 512)
        with torch.inference_mode():
            voiced = [model(piece[None], RATE_HZ).item() > 0.5 for piece in pieces]
        at = np.minimum(np.arange(len(sound) // 160) * 160 // 512, len(voiced) - 1)
        return np.array(voiced)[at]

    return detect


def run_usvs(**changes: Any) -> Detector:
    settings = VoiceActivitySettings.model_validate(changes)
    return lambda sound: voice_activity(sound, RATE_HZ, settings)


def high(active: np.ndarray) -> np.ndarray:
    length = round(CLIP_SECONDS * 100)
    return active[: len(active) // length * length].reshape(-1, length).mean(1) >= HIGH


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--prompts", type=Path, help="recorded speech as .wav")
    parser.add_argument("--minutes", type=float, default=6.0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    clean, spoken = talk(60 * options.minutes, options.prompts, seed=1)
    cases: dict[tuple[str, int | None], AudioDecodeStats] = {
        (kind.__name__, snr_db): [(mixed(kind, clean, snr_db), spoken)]
        for kind in (hum, clicks, room)
        for snr_db in SNRS_DB
    }
    cases["phantom", None] = phantom_narration()
    detectors = {
        "usvs": run_usvs(),
        "usvs, ratio 3": run_usvs(threshold_ratio=3.0),
        "usvs, no high-pass": run_usvs(high_pass_hz=0.0),
        "usvs, no high-pass, ratio 3": run_usvs(high_pass_hz=0.0, threshold_ratio=3.0),
        "usvs, growth compounds": run_usvs(growth_compounds=True),
        "usvs, held for 160 ms": run_usvs(hangover_seconds=0.16),
        "usvs, no minimum run": run_usvs(minimum_run_seconds=0.0),
        "WebRTC 1": by_webrtc(1),
        "WebRTC 3": by_webrtc(3),
        "Silero": by_silero(),
    }
    rows = []
    for (noise, snr_db), recordings in cases.items():
        truth = np.concatenate([high(speech) for _, speech in recordings])
        for name, detect in detectors.items():
            if detect is None:
                continue
            detected = np.concatenate([high(detect(sound)) for sound, _ in recordings])
            rows.append(
                {
                    "noise": noise,
                    "snr_db": snr_db,
                    "detector": name,
                    "clips": len(truth),
                    "high": int(truth.sum()),
                    "accuracy": float((detected == truth).mean()),
                    "high_found": float(detected[truth].mean()),
                    "low_taken_for_high": float(detected[~truth].mean()),
                }
            )
    report = {
        "environment": describe_environment(torch.device("cpu")),
        "speech": "recorded prompts" if options.prompts else "espeak-ng",
        "left_out": [name for name, detect in detectors.items() if detect is None],
        "rows": rows,
    }
    options.out.write_text(json.dumps(report, indent=1) + "\n")
    print(table(report))


def table(report: dict[str, Any]) -> str:
    """Lines of Markdown: share of clips placed rightly, of high ones found, of low ones taken for high, in percent."""
    rows = report["rows"]
    columns = list(dict.fromkeys((row["noise"], row["snr_db"]) for row in rows))
    heads = [noise if snr is None else f"{noise} {snr} dB" for noise, snr in columns]
    lines = [
        f"{rows[0]['clips']} clips of {report['speech']}, {rows[0]['high']} of them high; "
        f"phantom: {rows[-1]['clips']}, {rows[-1]['high']} high; right / found / taken, %",
        "",
        "| detector | " + " | ".join(heads) + " |",
        "|---" * (len(heads) + 1) + "|",
    ]
    for name in dict.fromkeys(row["detector"] for row in rows):
        mine = [row for row in rows if row["detector"] == name]
        shown = [
            " / ".join(f"{100 * row[k]:.0f}" for k in ("accuracy", "high_found", "low_taken_for_high")) for row in mine
        ]
        lines.append(f"| {name} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
