"""Remarks of a sonographer: the terms of each topic in many phrasings, and talk about other topics."""

import math
from dataclasses import dataclass

import numpy as np

TERM_WEIGHTS = (0.7, 0.15, 0.05)  # of the first, second and every further term: people repeat themselves
MAX_TERMS_PER_REMARK = 3

PHRASINGS: tuple[str, ...] = (
    "{a}",
    "{a}, {a}",
    "{a}, {b}, {a}",
    "the {a}",
    "the {a}, {b}",
    "{a} here, {a}",
    "and the {a}, {a}",
    "this is the {a}, {b}",
    "{a}, nice {a}",
    "{a}, the {b}, {a}",
    "that's the {a}, {a}",
    "{a}, lovely {a}",
    "{a}, yes, {a}",
)

CHATTER: tuple[str, ...] = (
    "lie still for me please",
    "it is so cold outside today",
    "did you come by train this morning",
    "have you any other children at home",
    "take a deep breath",
    "could you turn to your side a little",
    "is this your first one",
    "the traffic was terrible again",
    "are you comfortable there",
    "sorry, the gel is a bit cold",
    "let me just press a button",
    "we will see in a moment",
    "baby is wriggling a lot today",
    "when did you last eat something",
    "do you want to know what it is",
    "I will print you a picture later",
    "are you going away this summer",
    "just moving around a bit now",
    "it keeps turning away from me",
    "how is your mother doing",
    "the weather should get better on Sunday",
    "let me try that again",
    "okay, very good",
    "one moment please",
)


@dataclass(frozen=True)
class Lexicon:
    """What is said about each topic.

    Terms are repeated within a topic and belong to one topic only, so that most 0.6 s pieces contain part of one.

    Attributes:
        topics: name and terms of each topic; the most frequent term is first.
        phrasings: texts in which ``{a}``, ``{b}`` and ``{c}`` are replaced by terms.
        chatter: remarks about other topics.
    """

    topics: tuple[tuple[str, tuple[str, ...]], ...]
    phrasings: tuple[str, ...] = PHRASINGS
    chatter: tuple[str, ...] = CHATTER

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the topics, in the order of their indices."""
        return tuple(name for name, _ in self.topics)

    @property
    def texts(self) -> tuple[str, ...]:
        """All terms and remarks about other topics."""
        return (*(term for _, terms in self.topics for term in terms), *self.chatter)

    def on_topic(self, rng: np.random.Generator, topic: int) -> str:
        """Return a short remark that consists mostly of the topic's terms."""
        terms = self.topics[topic][1]
        size = min(MAX_TERMS_PER_REMARK, len(terms))
        drawn = rng.choice(np.array(terms, dtype=object), size=size, replace=False, p=_term_probabilities(len(terms)))
        a, b, c = (drawn[index % size] for index in range(MAX_TERMS_PER_REMARK))
        return str(rng.choice(self.phrasings)).format(a=a, b=b, c=c)

    def off_topic(self, rng: np.random.Generator) -> str:
        """Return a remark about another topic."""
        return str(rng.choice(self.chatter))


def _term_probabilities(count: int) -> list[float]:
    weights = [TERM_WEIGHTS[min(index, len(TERM_WEIGHTS) - 1)] for index in range(count)]
    total = math.fsum(weights)
    return [weight / total for weight in weights]
