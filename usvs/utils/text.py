"""Names and commands in messages."""

import logging
import shlex
from pathlib import Path


def printable(name: str) -> str:
    """Return a file name or a cell of a table as one line without control characters, safe to print on a terminal."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in name)


def utf8_text(name: str) -> str:
    """Return a file name as text that can be written in UTF-8: bytes of the name that are not become escape codes."""
    return name.encode("utf-8", "backslashreplace").decode()


def printable_lines(text: str) -> str:
    """Return lines of text without control characters other than ends of line and tabs, safe to print on a terminal."""
    if text.isascii() and text.replace("\n", "").replace("\t", "").isprintable():
        return text
    return "\n".join("\t".join(printable(word) for word in line.split("\t")) for line in text.split("\n"))


def log_lines(logger: logging.Logger, text: object) -> None:
    """Log the text of an object of several lines, one record for each line."""
    for line in str(text).split("\n"):
        logger.info(line)


def shell_command(*words: str | Path) -> str:
    """Return a command line that can be pasted into a shell; words with spaces are quoted."""
    return shlex.join(str(word) for word in words)


def quantity(count: int, noun: str) -> str:
    """Return a number with its noun, in the plural unless it is one: ``1 scan``, ``2 scans``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def size_text(count: float) -> str:
    """Return a number of bytes with its unit: ``1.5 MB``."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return quantity(round(count), "byte")


def duration_text(seconds: float) -> str:
    """Return a duration with its unit: ``40 s``, ``3 minutes``, ``2.5 hours``."""
    if seconds < 90:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 90 * 60 else f"{seconds / 3600:.1f} hours"
