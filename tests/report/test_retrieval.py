"""Ranks of retrieval, and what is said of them for few clips."""

import re

import numpy as np
import pytest

from usvs.report.pretraining_samples import RunSamples
from usvs.report.retrieval import own_ranks, retrieval_section


def test_ranks_of_the_own_clip():
    assert own_ranks(np.array([[0.9, 0.1, 0.2], [0.5, 0.3, 0.1], [0.3, 0.2, 0.1]])).tolist() == [1, 2, 3]


@pytest.mark.parametrize(("count", "tops"), [(1, []), (2, [1]), (5, [1]), (6, [1, 5])])
def test_no_chance_of_retrieval_reaches_100_percent(count, tops):
    clip = {"scan": "0123456789ab", "patient": "p", "seconds": 1.0, "speech_seconds": 1.0, "label": -1}
    pictures, vectors = np.zeros((count, 8, 8), np.uint8), np.eye(count, dtype=np.float32)
    described = {"patients": "unseen", "clips": [clip] * count, "label_names": [], "label_colours": []}
    samples = RunSamples(described, pictures, pictures, vectors, vectors, np.zeros((0, 2), np.float32))
    texts = [part for part in retrieval_section(samples) if isinstance(part, str) and part.startswith("Of all")]
    assert len(texts) == 2
    for text in texts:
        chances = [float(each) for each in re.findall(r"chance ([\d.]+) %", text)]
        assert chances == [pytest.approx(100 * top / count, abs=0.05) for top in tops], text
