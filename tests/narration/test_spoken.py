"""Classes to be spoken: how they are written, in which voices, and what cannot be spoken."""

import numpy as np
import pytest

from usvs.errors import ConfigError, DataError, MissingDependencyError
from usvs.narration.spoken import draw_voices, find_voice, read_spoken_classes, spoken_classes, synthesize_terms
from usvs.narration.voice import ACCENTS, SPEAKERS
from usvs.phantom.lexicon import TERMS


def test_names_and_terms_are_read_from_lines(tmp_path):
    file = tmp_path / "classes.txt"
    file.write_text(
        "\ufeff# planes\n4CH: four chambers, septum\n\nbrain_tv  # spoken as its name\n  left-lung: \tapex\n"
    )
    found = read_spoken_classes(file)
    assert found.class_list.names == ("4CH", "brain_tv", "left-lung")
    assert found.terms == (("four chambers", "septum"), ("brain tv",), ("apex",))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected at least two classes, each once, got 0"),
        ("one", "expected at least two classes, each once, got 1"),
        ("a\nb\na\n", "line 3: expected each class once, got 'a' again"),
        ("a:\nb\n", "line 1: expected 'name' or 'name: term, term', got 'a:'"),
        (": x\nb\n", "line 1: expected 'name' or 'name: term, term', got ': x'"),
        ("a: ,\nb\n", "line 1: expected 'name' or 'name: term, term'"),
    ],
)
def test_a_faulty_line_is_named(tmp_path, text, message):
    file = tmp_path / "classes.txt"
    file.write_text(text)
    with pytest.raises(ConfigError) as error:
        read_spoken_classes(file)
    assert message in str(error.value) and str(file) in str(error.value)


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00a"])
def test_what_is_no_text_is_one_error(tmp_path, content):
    file = tmp_path / "classes.txt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match="expected a text file with a class on each line"):
        read_spoken_classes(file)


def test_the_phantoms_lexicon_is_an_example():
    found = read_spoken_classes("examples/lexicons/phantom_planes.toml")
    assert dict(zip(found.class_list.names, found.terms, strict=True)) == TERMS


def test_names_alone_and_mappings():
    assert spoken_classes(["left_lung", "heart"]).terms == (("left lung",), ("heart",))
    assert spoken_classes({"a": ("x", "y"), "b": ()}).terms == (("x", "y"), ("b",))
    with pytest.raises(ConfigError, match="each once"):
        spoken_classes(["a", "a"])


def test_voices_are_different_and_never_those_that_are_excluded():
    drawn = draw_voices(16)
    assert len({one.name for one in drawn}) == 16 and drawn == draw_voices(16)
    rest = draw_voices(40, exclude=[one.name for one in drawn])
    assert not {one.name for one in rest} & {one.name for one in drawn}
    with pytest.raises(ConfigError, match=f"expected 1 to {len(ACCENTS) * len(SPEAKERS)}, got 99"):
        draw_voices(99)
    assert find_voice("en-us+f2").name == "en-us+f2"
    for name in ("nobody", "en-us", "en-us+f9", "xx+f1", ""):
        with pytest.raises(ConfigError, match=r"expected ACCENT\+SPEAKER"):
            find_voice(name)


def test_each_voice_speaks_each_term_in_each_phrasing():
    spoken = list(synthesize_terms(["heart", "lung"], draw_voices(2), 24_000, ("{a}", "the {a}")))
    assert [len(sounds) for sounds in spoken] == [4, 4]
    lengths = [len(sound) / 24_000 for sound in spoken[0]]
    assert all(0.2 < seconds < 2 for seconds in lengths) and lengths[1] > lengths[0]
    assert not np.array_equal(spoken[0][0], spoken[1][0])


@pytest.mark.parametrize("text", ["...", "", "  ", "\u200b"])
def test_a_text_without_words_is_an_error(text):
    with pytest.raises(DataError, match="expected words that espeak-ng can speak, got no sound"):
        list(synthesize_terms([text], draw_voices(1), 24_000, ("{a}",)))


def test_without_espeak_ng_the_extra_is_named(monkeypatch):
    import builtins

    original = builtins.__import__

    def without(name, *arguments, **keywords):
        if name == "espeakng_loader":
            raise ModuleNotFoundError("No module named 'espeakng_loader'", name=name)
        return original(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingDependencyError, match=r"pip install 'usvs\[phantom\]'") as error:
        list(synthesize_terms(["heart"], draw_voices(1), 24_000))
    assert error.value.exit_code == 4
