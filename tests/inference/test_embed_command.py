"""`usvs embed`: the same rows as `usvs.embed`, written part by part."""

import numpy as np
import pyarrow.parquet as pq
import pytest

import usvs
from tests.support.commands import run_command
from tests.support.media_files import write_video
from usvs.errors import ConfigError
from usvs.inference import embed as embed_module
from usvs.inference.embed import embed_to_file


@pytest.mark.parametrize("shared", [False, True])
def test_a_file_has_the_rows_of_the_table(shared_run, spoken_store, tmp_path, shared, monkeypatch, caplog):
    monkeypatch.setattr(embed_module, "ROW_GROUP_FRAMES", 20)
    out = tmp_path / "new folder" / "rows.parquet"
    switch = ["--shared"] if shared else []
    assert run_command("embed", spoken_store, shared_run, out, "--stride", "5", *switch) == 0
    expected = usvs.embed(spoken_store, shared_run, stride=5, space="shared" if shared else "features")
    found = pq.read_table(out)
    assert found.equals(expected) and found.column_names[0] == ("embedding" if shared else "features")
    assert len(found) == 48 and pq.ParquetFile(out).num_row_groups == 4  # 12 rows a scan, at most 20 a part
    assert "48 rows" in caplog.text and out.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in out.parent.iterdir()] == ["rows.parquet"]


def test_videos_and_stores_together(shared_run, spoken_store, tmp_path):
    write_video(tmp_path / "a.mp4", count=20)
    out = tmp_path / "rows.parquet"
    assert embed_to_file([tmp_path / "a.mp4", spoken_store], shared_run, out, stride=10) == 2 + 24
    table = pq.read_table(out)
    assert table["scan"].to_pylist()[:3] == [str(tmp_path / "a.mp4")] * 2 + ["000000000000"]
    assert np.stack(table["features"].to_numpy()).shape[0] == 26


def test_a_failure_leaves_the_older_file(shared_run, spoken_store, tmp_path, capsys):
    out = tmp_path / "rows.parquet"
    embed_to_file([spoken_store], shared_run, out, stride=20)
    before = out.read_bytes()
    (tmp_path / "b.mp4").write_text("no video")
    assert run_command("embed", tmp_path / "b.mp4", shared_run, out, "--stride", "20") == 3
    assert "b.mp4" in capsys.readouterr().err
    assert out.read_bytes() == before and not list(tmp_path.glob(".*partial"))


def test_another_ending_and_an_encoder_without_speech_are_refused(shared_run, spoken_store, tmp_path):
    with pytest.raises(ConfigError, match=r"expected a name that ends in \.parquet, got '.*rows\.csv'"):
        embed_to_file([spoken_store], shared_run, tmp_path / "rows.csv")
    with pytest.raises(ConfigError, match="space: expected features or shared, got 'joint'"):
        usvs.embed(spoken_store, shared_run, space="joint")
    with pytest.raises(ConfigError, match="expected the folder of a pretraining run, got an encoder"):
        usvs.embed(spoken_store, usvs.load_encoder(shared_run), space="shared")
