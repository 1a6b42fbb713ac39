"""A lexicon is read strictly: what is wrong in it is named, and the ready-made ones are valid."""

from pathlib import Path

import pytest

from usvs.errors import ConfigError
from usvs.narration.lexicon import CHATTER, PHRASINGS
from usvs.narration.lexicon_file import read_lexicon
from usvs.utils.seeds import stream

LEXICONS = Path(__file__).resolve().parents[2] / "examples" / "lexicons"


def read(tmp_path: Path, text: str, name: str = "words.toml"):
    file = tmp_path / name
    file.write_text(text, encoding="utf-8")
    return read_lexicon(file)


def test_phrasings_and_chatter_are_optional(tmp_path):
    lexicon = read(tmp_path, '[terms]\nliver = ["liver", "right lobe"]\n"2" = ["spleen"]')
    assert lexicon.names == ("liver", "2")
    assert lexicon.topics[0][1] == ("liver", "right lobe")
    assert lexicon.phrasings == PHRASINGS and lexicon.chatter == CHATTER
    own = read(tmp_path, 'phrasings = ["see {a}"]\nchatter = ["so"]\n[terms]\nliver = ["liver"]')
    assert own.on_topic(stream(0, "x"), 0) == "see liver" and own.off_topic(stream(0, "x")) == "so"


@pytest.mark.parametrize("count", [1, 2, 3, 5, 9])
def test_any_number_of_terms_is_spoken_and_the_first_one_most(tmp_path, count):
    terms = [f"term{number}" for number in range(count)]
    lexicon = read(tmp_path, f"[terms]\nliver = {terms}")
    remarks = [lexicon.on_topic(stream(0, "remark", number), 0) for number in range(300)]
    counts = [sum(term in remark for remark in remarks) for term in terms]
    assert counts[0] == max(counts) and counts[0] > 150 and min(counts) > 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("terms = 3", r"expected a table \[terms\]"),
        ("[terms]", r"expected a table \[terms\]"),
        ("[terms]\na = []", "class 'a': expected a list of one or more texts"),
        ("[terms]\na = 'liver'", "class 'a': expected a list"),
        ("[terms]\na = [3]", "class 'a': expected a list of one or more texts"),
        ("[terms]\na = [' ']", "class 'a': expected a list of one or more texts"),
        ("[terms]\na = ['liver']\nb = ['Liver']", "expected terms of one class only, got 'Liver' in 'a' and 'b'"),
        ("[term]\na = ['liver']", r"expected a table \[terms\]"),
        ("chater = ['x']\n[terms]\na = ['liver']", "expected the keys terms, phrasings, chatter, got 'chater'"),
        ("phrasings = ['the liver']\n[terms]\na = ['liver']", r"phrasings: expected \{a\}"),
        ("phrasings = ['{a} {d}']\n[terms]\na = ['liver']", r"phrasings: expected \{a\}"),
        ("phrasings = ['{a']\n[terms]\na = ['liver']", r"phrasings: expected \{a\}"),
        ("phrasings = ['{a.real} {a}']\n[terms]\na = ['liver']", r"phrasings: expected \{a\}"),
        ("phrasings = ['{a:>9999999999}']\n[terms]\na = ['liver']", r"phrasings: expected \{a\}"),
        ("chatter = []\n[terms]\na = ['liver']", "chatter: expected a list of one or more texts"),
        ("[terms\n", "words.toml"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message):
        read(tmp_path, text)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"lexicon '.*none\.toml' cannot be read"):
        read_lexicon(tmp_path / "none.toml")


@pytest.mark.parametrize("file", sorted(LEXICONS.glob("*.toml")), ids=lambda file: file.stem)
def test_the_ready_made_lexicons_are_valid(file):
    lexicon = read_lexicon(file)
    for name, terms in lexicon.topics:
        assert len(terms) >= 5, name
    spoken = [term for _, terms in lexicon.topics for term in terms]
    assert not any(term in remark for term in spoken for remark in lexicon.chatter)
