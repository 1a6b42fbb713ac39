"""`usvs prepare` on a Dask cluster of two processes, one of which is killed half-way."""

import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest

from usvs.errors import MissingDependencyError, ResourceError
from usvs.store.dask_cluster import dask_cluster
from usvs.store.indexing import index_archive
from usvs.store.prepare import prepare_store
from usvs.store.prepared import PreparedStore
from usvs.store.settings import ClipSettings, PrepareSettings

SETTINGS = PrepareSettings(frame_pixels=32)


@pytest.fixture
def store(make_video, tmp_path: Path) -> Path:
    for number in range(12):
        make_video(f"p{number // 3}/scan{number}.mp4", count=40)
    clips = ClipSettings(clip_seconds=0.5, speech_seconds=0.2, order_spacing_seconds=0.1, order_jitter_seconds=0.01)
    index_archive(tmp_path / "archive", tmp_path / "store", clips=clips, workers=1)
    return tmp_path / "store"


@pytest.mark.slow
def test_a_worker_that_is_killed_costs_nothing(store: Path, capsys: pytest.CaptureFixture[str]):
    distributed = pytest.importorskip("distributed", reason="distributed is not installed: --dask is not tested here")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
    ) as local:
        victim = local.workers[0].pid
        with dask_cluster(local.scheduler_address) as cluster:
            assert cluster.workers == 2
            submit, killed = cluster.executor.submit, []

            def submit_and_kill(*task):
                if not killed and any((store / "prepared").glob("[0-9a-f]*")):  # the first scans are done
                    os.kill(victim, signal.SIGKILL)
                    killed.append(victim)
                return submit(*task)

            cluster.executor.submit = submit_and_kill  # type: ignore[method-assign]
            summary = prepare_store(store, profile=SETTINGS, cluster=cluster)
    assert killed == [victim]
    assert (summary.prepared + summary.unchanged, summary.failed, summary.found) == (12, 0, 12)
    scans = PreparedStore(store)
    assert len(scans.scans) == 12
    assert all(scans.scan(n).frames(np.array([39])).shape == (1, 32, 32) for n in range(12))
    assert not list((store / "prepared").glob(".partial*"))
    printed = capsys.readouterr()
    assert not any(name in printed.out + printed.err for name in ("scan1", str(store.parent / "archive")))
    assert prepare_store(store, profile=SETTINGS, workers=1).unchanged == 12


def test_what_is_missing_is_named_in_one_sentence(monkeypatch: pytest.MonkeyPatch):
    if "distributed" in sys.modules or pytest.importorskip("distributed"):
        with (
            pytest.raises(ResourceError, match="no scheduler answers at 'nowhere'"),
            dask_cluster("nowhere"),
        ):
            pass
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'usvs\[dask\]'"), dask_cluster("tcp://x:1"):
        pass
