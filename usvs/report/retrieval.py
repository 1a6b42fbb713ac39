"""Retrieval and the map of embeddings of a pretrained network, from the clips that were measured."""

from collections.abc import Iterator, Sequence
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray

from usvs.archive.class_list import UNLABELLED
from usvs.report.charts import colour_mark, legend, map_chart, shape_mark
from usvs.report.elements import Content, element, figure, group, note, paragraph
from usvs.report.pictures import coloured, picture
from usvs.report.pretraining_samples import RunSamples
from usvs.report.scan_labels import palette
from usvs.utils.spacing import evenly_spaced

QUERIES, ANSWERS = 6, 5
TOP = (1, 5)
NO_LABEL_COLOUR = "#9aa0a6"
MAX_LEGEND = 24


def retrieval_section(samples: RunSamples) -> Iterator[Content]:
    """Yield the grid of retrieval, both ways, with what it amounts to over all clips."""
    if not len(samples):
        yield note(f"There is nothing to retrieve: {samples.description.get('why_not', 'no clip was measured')}.")
        return
    count = len(samples)
    whose = "unseen" if samples.description["patients"] == "unseen" else "training"
    similarity = samples.speech @ samples.video.T  # [speech, frames]
    yield (
        f"{count} clips of {whose} patients, evenly spaced over their scans; of each, the middle frame and the loudest"
        f" of five pieces of speech. Of these, {min(QUERIES, count)} evenly spaced ones ask, so none is chosen by its"
        " answer. The frame and the speech of the same clip are marked. Several clips show the same, so rank 1 is not"
        " reachable for all."
    )
    titles = ("From speech to frames", "From frames to speech")
    for title, values, spoken in zip(titles, (similarity, similarity.T), (True, False), strict=True):
        yield element("h3", {}, title)
        ranks = own_ranks(values)
        parts = [f"median rank {np.median(ranks):.0f} of {count} (chance {(count + 1) / 2:.0f})"]
        parts += [
            f"in the first {top}: {100 * (ranks <= top).mean():.0f} % (chance {100 * top / count:.1f} %)"
            for top in TOP
            if top < count
        ]
        yield f"Of all {count}: {', '.join(parts)}.{_labels_sentence(samples, values)}"
        asked = evenly_spaced(count, QUERIES).tolist()
        yield group(
            "queries", [_query(samples, number, values[number], int(ranks[number]), spoken) for number in asked]
        )


def map_section(samples: RunSamples) -> Iterator[Content]:
    """Yield the map of the embeddings, coloured by label and by patient."""
    if not len(samples.places):
        yield note("Too few clips with speech for a map.")
        return
    clips, count = samples.description["clips"], len(samples)
    is_speech = np.arange(2 * count) >= count
    names, colours = samples.description["label_names"], samples.description["label_colours"]
    codes = [int(clip["label"]) for clip in clips]
    patients = sorted({clip["patient"] for clip in clips})
    patient_colours = dict(zip(patients, palette(len(patients)), strict=True))
    yield (
        "Frames and speech of the same clips in the space in which the run compares them, in two dimensions by t-SNE:"
        " what is near there is near here, but distances between groups mean little. Where content is learnt, frames"
        " and speech of a label are together; where only patients are, the colours of the second map form groups."
    )
    yield legend([("frame", shape_mark(False)), ("speech", shape_mark(True))])
    maps = []
    if any(code != UNLABELLED for code in codes):
        by_label = [NO_LABEL_COLOUR if code == UNLABELLED else colours[code] for code in codes]
        texts = ["no label" if code == UNLABELLED else str(names[code]) for code in codes]
        chart = map_chart(samples.places, is_speech, by_label * 2, texts * 2, "map of embeddings, coloured by label")
        present = sorted({code for code in codes if code != UNLABELLED})
        entries: list[tuple[str, Element]] = [
            (str(names[code]), colour_mark(colours[code])) for code in present[:MAX_LEGEND]
        ]
        if UNLABELLED in codes:
            entries.append(("no label", colour_mark(NO_LABEL_COLOUR)))
        maps.append(group("", [figure("by label", chart), legend(entries)]))
    by_patient = [patient_colours[clip["patient"]] for clip in clips]
    texts = [f"patient {clip['patient']}" for clip in clips]
    chart = map_chart(samples.places, is_speech, by_patient * 2, texts * 2, "map of embeddings, coloured by patient")
    maps.append(group("", [figure("by patient", chart, f"{len(patients)} patients, one colour each")]))
    yield group("wide", maps)


def own_ranks(similarity: NDArray[np.floating]) -> NDArray[np.int64]:
    """Return the rank, from 1, of the own clip among the answers to each query: [n], from similarities [n, n]."""
    own = np.diagonal(similarity)[:, None]
    return np.asarray(1 + (similarity > own).sum(axis=1), np.int64)


def _labels_sentence(samples: RunSamples, similarity: NDArray[np.floating]) -> str:
    """Return how often the first answer that is of another clip has the label of the query."""
    codes = np.array([clip["label"] for clip in samples.description["clips"]])
    known = codes != UNLABELLED
    if known.sum() < 2 or len(set(codes[known].tolist())) < 2:
        return ""
    rows = np.flatnonzero(known)
    values = similarity[np.ix_(rows, rows)].astype(np.float64)
    np.fill_diagonal(values, -np.inf)
    same = codes[rows][values.argmax(axis=1)] == codes[rows]
    equal = codes[rows][:, None] == codes[rows][None]
    chance = (equal.sum() - len(rows)) / (len(rows) * (len(rows) - 1))
    return (
        f" The nearest of another clip has the same label in {100 * same.mean():.0f} % (chance {100 * chance:.0f} %)."
    )


def _query(samples: RunSamples, number: int, values: NDArray[np.floating], rank: int, spoken: bool) -> Element:
    clips = samples.description["clips"]
    best = np.argsort(-values, kind="stable")[:ANSWERS].tolist()
    shown = best if number in best else [*best, number]
    asked = element(
        "div",
        {"class": "asked"},
        _picture_of(samples, number, spoken),
        paragraph(f"{'speech' if spoken else 'frame'}{_label_of(samples, number)}"),
        paragraph(_place(clips[number], spoken)),
    )
    answers = []
    for position, other in enumerate(shown, 1):
        own = other == number
        place = f"rank {rank if other == number and other not in best else position}{', own clip' if own else ''}"
        answers.append(
            element(
                "li",
                {"class": "own" if own else None},
                _picture_of(samples, other, not spoken),
                paragraph(f"{place}{_label_of(samples, other)}"),
                paragraph(f"{values[other]:.2f} · {_place(clips[other], not spoken)}"),
            )
        )
    return element("div", {"class": "query"}, asked, element("ol", {"class": "answers"}, *answers))


def _picture_of(samples: RunSamples, number: int, spoken: bool) -> Element:
    clip = samples.description["clips"][number]
    if spoken:
        side = 2 * samples.spectrograms.shape[1]
        pixels = coloured(samples.spectrograms[number], min(side, 128), min(side, 128))
        return picture(pixels, f"spectrogram of speech at {_place(clip, True)}")
    return picture(samples.frames[number], f"frame at {_place(clip, False)}")


def _label_of(samples: RunSamples, number: int) -> str:
    names: Sequence[Any] = samples.description["label_names"]
    code = int(samples.description["clips"][number]["label"])
    return "" if code == UNLABELLED else f" · {names[code]}"


def _place(clip: dict[str, Any], spoken: bool) -> str:
    return f"scan {clip['scan'][:6]}, {clip['speech_seconds' if spoken else 'seconds']:.1f} s"
