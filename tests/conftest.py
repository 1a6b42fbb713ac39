"""What many tests share: the real material, and one small prepared store made the way a user makes it."""

import logging
import os
from pathlib import Path

import pytest
import torch

from tests.support.media_files import make_prepared, make_video

__all__ = ["make_prepared", "make_video"]

ROOT = Path(__file__).resolve().parents[1]


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


@pytest.fixture(scope="session")
def tiny_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A phantom archive of four patients, a short scan each."""
    from usvs.phantom import make_phantom
    from usvs.phantom.settings import PhantomSettings

    archive = tmp_path_factory.mktemp("phantom") / "archive"
    make_phantom(archive, patients=4, seed=3, settings=PhantomSettings(scan_seconds=24.0))
    return archive


@pytest.fixture(scope="session")
def tiny_store(tiny_archive: Path) -> Path:
    """The store of `tiny_archive`, prepared for the quick profile."""
    from usvs.store.indexing import index_archive
    from usvs.store.prepare import prepare_store

    store = tiny_archive.parent / "store"
    index_archive(tiny_archive, store)
    prepare_store(store, profile="quick")
    return store


@pytest.fixture(autouse=True)
def _capture_info(caplog: pytest.LogCaptureFixture) -> None:
    """Let `caplog` see what the package logs at level INFO."""
    caplog.set_level(logging.INFO, "usvs")
