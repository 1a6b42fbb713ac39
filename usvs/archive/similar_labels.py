"""Labels that may be one class in two spellings: found for a question to the owner, never merged by themselves."""

import re
import unicodedata
from collections.abc import Sequence
from itertools import combinations

from usvs.archive.labels import STANDARD_PLANES, find_plane_index

NUMBER_WORDS = {
    word: str(number)
    for number, word in enumerate(("one", "two", "three", "four", "five", "six", "seven", "eight", "nine"), start=1)
}
SMALLEST_PREFIX = 2  # letters that an abbreviation has at least: "ch" of "chamber"
SMALLEST_LONG = 5  # letters of the word that it stands for: LV is not LVOT
SMALLEST_MISSPELT = 5  # letters; in shorter words one other letter makes another word
MAX_LABELS = 500  # all pairs are compared


def similar_groups(labels: Sequence[str]) -> list[list[str]]:
    """Return groups of labels that may be one class, each in the order of `labels`; others are in no group.

    Two labels are similar where they differ in capitals, accents, blanks or punctuation alone, in the order of words,
    in a number that is a word, has leading zeros or is missing, in one letter of a longer word, in abbreviated words
    (4CH, 4-chamber), or where one has the initials of the other (LVOT), or where both are names of one standard plane.

    Args:
        labels: different labels of one column.
    """
    group_of: dict[str, list[str]] = {}
    shown = labels[:MAX_LABELS]
    words = {label: split_words(label) for label in shown}
    for first, second in combinations(shown, 2):
        if _are_similar(words[first], words[second]) or _are_one_plane(first, second):
            merged = [*group_of.get(first, [first])]
            merged += [label for label in group_of.get(second, [second]) if label not in merged]
            for label in merged:
                group_of[label] = merged
    groups = {id(group): group for group in group_of.values()}
    return [[label for label in shown if label in group] for group in groups.values()]


def split_words(label: str) -> tuple[str, ...]:
    """Return the words and numbers of a label: small letters without accents, number words as digits."""
    plain = "".join(
        letter for letter in unicodedata.normalize("NFKD", label.lower()) if not unicodedata.combining(letter)
    )
    words = re.findall(r"\d+(?:\.\d+)?|[^\W\d_]+", plain)
    return tuple(_plain_number(NUMBER_WORDS.get(word, word)) for word in words)


def _plain_number(word: str) -> str:
    return f"{float(word):g}" if word[0].isdigit() and len(word) < 16 else word


def _are_similar(first: tuple[str, ...], second: tuple[str, ...]) -> bool:
    if not first or not second:
        return False
    if "".join(first) == "".join(second) or sorted(first) == sorted(second) or _is_initials_of(first, second):
        return True
    different = [pair for pair in zip(first, second, strict=False) if pair[0] != pair[1]]
    if sorted(_letters(first)) == sorted(_letters(second)) and abs(len(first) - len(second)) == 1:
        return True  # one number more: covid, covid-19
    if len(first) != len(second) or any(word[0].isdigit() for pair in different for word in pair):
        return False
    if all(_is_abbreviation(*pair) for pair in different):
        return True
    return len(different) == 1 and _is_misspelt(*different[0])


def _letters(words: tuple[str, ...]) -> list[str]:
    return [word for word in words if not word[0].isdigit()]


def _is_initials_of(first: tuple[str, ...], second: tuple[str, ...]) -> bool:
    """Return whether one label is the initials of the other: LVOT, left ventricular outflow tract."""
    short, long = sorted(("".join(first), "".join(second)), key=len)
    words = first if "".join(first) == long else second
    return len(words) > 1 and len(short) > 1 and short == "".join(word[0] for word in words)


def _is_abbreviation(first: str, second: str) -> bool:
    short, long = sorted((first, second), key=len)
    return len(short) >= SMALLEST_PREFIX and len(long) >= SMALLEST_LONG and long.startswith(short)


def _is_misspelt(first: str, second: str) -> bool:
    """Return whether two longer words differ by one letter: another one, one more, or two exchanged."""
    short, long = sorted((first, second), key=len)
    if len(short) < SMALLEST_MISSPELT or len(long) - len(short) > 1:
        return False
    start = next((n for n, pair in enumerate(zip(short, long, strict=False)) if pair[0] != pair[1]), len(short))
    if len(short) < len(long):
        return short[start:] == long[start + 1 :]
    exchanged = short[start : start + 2] == long[start : start + 2][::-1] and short[start + 2 :] == long[start + 2 :]
    return exchanged or short[start + 1 :] == long[start + 1 :]


def _are_one_plane(first: str, second: str) -> bool:
    number = find_plane_index(first)
    both_listed = {first, second} <= set(STANDARD_PLANES)
    return number is not None and number == find_plane_index(second) and not both_listed
