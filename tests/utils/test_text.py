from pathlib import Path

from usvs.utils.text import printable, quantity, shell_command


def test_texts_of_messages() -> None:
    assert [quantity(count, "scan") for count in (0, 1, 2)] == ["0 scans", "1 scan", "2 scans"]
    assert printable("a\nb\x1b[31m") == "a\\nb\\x1b[31m"
    assert shell_command("usvs", "prepare", Path("/a b/store")) == "usvs prepare '/a b/store'"
