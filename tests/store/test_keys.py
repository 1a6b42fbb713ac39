import stat
from pathlib import Path

import pytest

from usvs.errors import DataError
from usvs.store.keys import Keys


def test_keys_stay_the_same_in_a_store_and_differ_between_stores(tmp_path: Path):
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir(), other.mkdir()
    keys = Keys.create(one)
    again, loaded, foreign = Keys.create(one), Keys.load(one), Keys.create(other)
    key = keys.scan_key("Doe/scan.mp4")
    assert key == again.scan_key("Doe/scan.mp4") == loaded.scan_key("Doe/scan.mp4")
    assert key != foreign.scan_key("Doe/scan.mp4")
    assert len(key) == 12 and int(key, 16) >= 0
    assert stat.S_IMODE((one / "private.key").stat().st_mode) == 0o600


def test_a_scan_and_a_patient_of_one_name_have_different_keys_and_nothing_is_revealed(tmp_path: Path):
    keys = Keys.create(tmp_path)
    assert keys.scan_key("Doe") != keys.patient_key("Doe")
    assert keys.secret.hex() not in repr(keys) and "secret" not in repr(keys)


def test_a_store_without_its_key_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match="not a store"):
        Keys.load(tmp_path)
    (tmp_path / "private.key").write_bytes(b"short")
    with pytest.raises(DataError, match="expected 32 bytes, got 5"):
        Keys.load(tmp_path)
