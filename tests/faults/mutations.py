"""Mutations of a store: each damages files, swaps them, loses them or replaces them with stale ones."""

import random
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

BYTES, FILES, MEANING = "bytes", "files", "meaning"


def files_of(store: Path) -> list[Path]:
    """Return the files of a store that training may read, relative to it."""
    return sorted(path.relative_to(store) for path in store.rglob("*") if path.is_file() and path.suffix != ".lock")


def kind_of_file(path: Path) -> str:
    """Return a name under which the files of all scans and catalogues are counted together."""
    return path.name


def rewrite(path: Path, content: bytes) -> None:
    """Replace a file that may be a hard link to the undamaged one."""
    path.unlink()
    path.write_bytes(content)


def flip_bit(store: Path, file: Path, choose: random.Random, others: Sequence[Path]) -> None:
    content = bytearray((store / file).read_bytes())
    content[choose.randrange(len(content))] ^= 1 << choose.randrange(8)
    rewrite(store / file, bytes(content))


def flip_first_bytes(store: Path, file: Path, choose: random.Random, others: Sequence[Path]) -> None:
    """Headers are where a bit changes most."""
    content = bytearray((store / file).read_bytes())
    content[choose.randrange(min(160, len(content)))] ^= 1 << choose.randrange(8)
    rewrite(store / file, bytes(content))


def change_digit(store: Path, file: Path, choose: random.Random, others: Sequence[Path]) -> None:
    """Another number of the same length: a text stays valid."""
    content = bytearray((store / file).read_bytes())
    digits = [place for place, byte in enumerate(content[: 1 << 16]) if 48 <= byte <= 57] or [0]
    content[choose.choice(digits)] = choose.choice(b"0123456789")
    rewrite(store / file, bytes(content))


def random_bytes(store: Path, file: Path, choose: random.Random, others: Sequence[Path]) -> None:
    content = bytearray((store / file).read_bytes())
    length = choose.randrange(1, min(4096, len(content)) + 1)
    start = choose.randrange(len(content) - length + 1)
    content[start : start + length] = choose.randbytes(length)
    rewrite(store / file, bytes(content))


def zero_block(store: Path, file: Path, choose: random.Random, others: Sequence[Path]) -> None:
    content = bytearray((store / file).read_bytes())
    length = choose.randrange(1, len(content) + 1)
    start = choose.randrange(len(content) - length + 1)
    content[start : start + length] = bytes(length)
    rewrite(store / file, bytes(content))


def truncate(store: Path, file: Path, choose: random.Random, others: Sequence[Path]) -> None:
    content = (store / file).read_bytes()
    rewrite(store / file, content[: choose.randrange(len(content))])


def append(store: Path, file: Path, choose: random.Random, others: Sequence[Path]) -> None:
    rewrite(store / file, (store / file).read_bytes() + choose.randbytes(choose.randrange(1, 4096)))


def shift(store: Path, file: Path, choose: random.Random, others: Sequence[Path]) -> None:
    """A block is lost inside the file and the rest moves up."""
    content = (store / file).read_bytes()
    start = choose.randrange(len(content))
    rewrite(store / file, content[:start] + content[start + choose.randrange(1, 64) :])


def remove(store: Path, file: Path, choose: random.Random, others: Sequence[Path]) -> None:
    (store / file).unlink()


def empty(store: Path, file: Path, choose: random.Random, others: Sequence[Path]) -> None:
    rewrite(store / file, b"")


def make_folder(store: Path, file: Path, choose: random.Random, others: Sequence[Path]) -> None:
    (store / file).unlink()
    (store / file).mkdir()


def swap_rows(store: Path, file: Path, choose: random.Random, others: Sequence[Path]) -> None:
    """Two rows of a column or of the catalogue change places; another file has two blocks swapped."""
    path = store / file
    if path.suffix == ".npy":
        values = np.load(path)
        one, other = choose.randrange(len(values)), choose.randrange(len(values))
        values[[one, other]] = values[[other, one]]
        path.unlink()
        np.save(path, values)
    elif path.suffix == ".parquet":
        table = pq.read_table(path)
        order = list(range(table.num_rows))
        choose.shuffle(order)
        path.unlink()
        pq.write_table(table.take(order), path)
    else:
        content = bytearray(path.read_bytes())
        length = choose.randrange(1, len(content) // 2 + 1)
        content[:length], content[-length:] = content[-length:], content[:length]
        rewrite(path, bytes(content))


def swap_with_other(store: Path, file: Path, choose: random.Random, others: Sequence[Path]) -> None:
    """The same file of another scan, or else any other file, changes places with this one."""
    same = [other for other in files_of(store) if other.name == file.name and other != file]
    other = choose.choice(same or [path for path in files_of(store) if path != file])
    mine, theirs = (store / file).read_bytes(), (store / other).read_bytes()
    rewrite(store / file, theirs)
    rewrite(store / other, mine)


def swap_within_folder(store: Path, file: Path, choose: random.Random, others: Sequence[Path]) -> None:
    beside = [path for path in (store / file).parent.iterdir() if path.is_file() and path.name != file.name]
    if not beside:
        return swap_with_other(store, file, choose, others)
    other = choose.choice(beside)
    mine, theirs = (store / file).read_bytes(), other.read_bytes()
    rewrite(store / file, theirs)
    rewrite(other, mine)
    return None


def stale_file(store: Path, file: Path, choose: random.Random, others: Sequence[Path]) -> None:
    """The file as it was, or is, in another store with the same keys."""
    other = choose.choice(others)
    found = other / file if (other / file).exists() else next(iter(other.rglob(file.name)), None)
    if found is not None:
        rewrite(store / file, found.read_bytes())


def stale_folder(store: Path, file: Path, choose: random.Random, others: Sequence[Path]) -> None:
    """The whole scan, or the whole catalogue, of an earlier state."""
    top = Path(*file.parts[: 2 if file.parts[0] == "prepared" else 1])
    other = choose.choice(others)
    if (store / top).is_dir():
        shutil.rmtree(store / top)
        shutil.copytree(other / top, store / top)
    else:
        rewrite(store / top, (other / top).read_bytes())


def swap_scan_folders(store: Path, file: Path, choose: random.Random, others: Sequence[Path]) -> None:
    one, other = choose.sample(sorted(path for path in (store / "prepared").iterdir()), 2)
    aside = store / "aside"
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


def remove_scan_folder(store: Path, file: Path, choose: random.Random, others: Sequence[Path]) -> None:
    shutil.rmtree(choose.choice(sorted((store / "prepared").iterdir())))


def rename_key(store: Path, file: Path, choose: random.Random, others: Sequence[Path]) -> None:
    """A manifest that claims the key of another scan, with its folder renamed to it."""
    one, other = choose.sample(sorted((store / "prepared").iterdir()), 2)
    manifest = one / "manifest.json"
    rewrite(manifest, re.sub(one.name.encode(), other.name.encode(), manifest.read_bytes()))
    shutil.rmtree(other)
    one.rename(other)


Mutation = Callable[[Path, Path, random.Random, Sequence[Path]], None]
MUTATIONS: dict[str, Mutation] = {
    made.__name__: made
    for made in (
        *(flip_bit, flip_first_bytes, change_digit, random_bytes, zero_block, truncate, append, shift, remove, empty),
        *(make_folder, swap_rows, swap_with_other, swap_within_folder, stale_file, stale_folder),
        *(swap_scan_folders, remove_scan_folder, rename_key),
    )
}
