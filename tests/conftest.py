"""What many tests share: the real material, and one small prepared store made the way a user makes it."""

import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from tests.support.media_files import make_prepared, make_video

__all__ = ["make_prepared", "make_video"]

ROOT = Path(__file__).resolve().parents[1]

# Where a test does not ask for workers, files are read in this process: to start others takes longer than most tests.
os.environ.setdefault("LOKY_MAX_CPU_COUNT", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test marked `gpu` is skipped where there is no device, unless USVS_REQUIRE_GPU says that there must be one."""
    if torch.cuda.is_available() or os.environ.get("USVS_REQUIRE_GPU"):
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="no CUDA device here; `make test-gpu` runs it where there is one"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """../shared/data: real planes, clips and weights, which are never committed."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("../shared/data is absent: real material is not tested here")
    return folder


def make_once(tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Return a folder of this session that the first of pytest-xdist's processes makes and the others wait for.

    Tests read it only.
    """
    root = tmp_path_factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root
    folder, complete = root / name, root / f"{name}.complete"
    with FileLock(root / f"{name}.lock"):
        if not complete.exists():
            make(folder)
            complete.touch()
    return folder


@pytest.fixture(scope="session")
def tiny_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A phantom archive of four patients, a short scan each; read only."""

    def make(archive: Path) -> None:
        from usvs.phantom import make_phantom
        from usvs.phantom.settings import PhantomSettings

        make_phantom(archive, patients=4, seed=3, settings=PhantomSettings(scan_seconds=24.0))

    return make_once(tmp_path_factory, "phantom", make)


@pytest.fixture(scope="session")
def tiny_store(tmp_path_factory: pytest.TempPathFactory, tiny_archive: Path) -> Path:
    """The store of `tiny_archive`, prepared for the quick profile; read only."""

    def make(store: Path) -> None:
        from usvs.store.indexing import index_archive
        from usvs.store.prepare import prepare_store

        index_archive(tiny_archive, store)
        prepare_store(store, profile="quick")

    return make_once(tmp_path_factory, "phantom_store", make)


@pytest.fixture(autouse=True)
def _capture_info(caplog: pytest.LogCaptureFixture) -> None:
    """Let `caplog` see what the package logs at level INFO."""
    caplog.set_level(logging.INFO, "usvs")
