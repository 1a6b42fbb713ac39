import json
import subprocess
import sys

import pytest

from tests.support.interruptions import FileOperations, Interrupted, interruptions
from usvs.errors import ConfigError, DataError
from usvs.tasks.result_cache import ResultCache, describe_difference

RECORD = {"settings": {"folds": 3}, "patients": ["a", "b"]}


def measure_two(out):
    with ResultCache(out, "kind", RECORD) as cache:
        return [
            cache.measure(f"result {number}, of two", lambda number=number: {"f1": number / 2}) for number in (1, 2)
        ]


def test_a_result_is_measured_once_and_returned_as_it_was_stored(tmp_path):
    out, calls = tmp_path / "a" / "b", []

    def work():
        calls.append(1)
        return {"f1": 0.1 + 0.2, "patients": ("x",)}

    for _ in range(2):
        with ResultCache(out, "kind", RECORD) as cache:
            assert cache.measure("one", work) == {"f1": 0.1 + 0.2, "patients": ["x"]}
    assert calls == [1]
    assert json.loads((out / "kind.json").read_text()) == RECORD
    assert [file.name for file in (out / "results").iterdir()] == ["one.json"]


def test_an_interruption_at_any_file_operation_is_resumed(tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        counter = FileOperations(patch, tmp_path)
        expected = measure_two(tmp_path / "complete")
    assert counter.count > 10
    for number, after in interruptions(counter.count):
        out = tmp_path / f"interrupted_{number}_{after}"
        with pytest.MonkeyPatch.context() as patch, pytest.raises(Interrupted):
            FileOperations(patch, tmp_path, number, after)
            measure_two(out)
        assert measure_two(out) == expected, (number, after)


def test_other_content_is_refused_and_hidden_files_are_not_content(tmp_path):
    (tmp_path / "mine.txt").write_text("keep me")
    with pytest.raises(ConfigError, match=r"expected an empty folder or results of kind 'kind', got 'mine.txt'"):
        ResultCache(tmp_path, "kind", RECORD)
    assert sorted(file.name for file in tmp_path.iterdir()) == [".lock", "mine.txt"]
    (tmp_path / "mine.txt").unlink()
    (tmp_path / ".kind.json.partial").write_text("{")
    ResultCache(tmp_path, "kind", RECORD).close()
    with pytest.raises(ConfigError, match="expected a folder, got a file"):
        ResultCache(tmp_path / "kind.json", "kind", RECORD)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"settings": {"folds": 2}}, r"settings\.folds: expected 3, got 2"),
        ({"patients": ["a"]}, r'patients: expected \["a", "b"\], got \["a"\]'),
        ({"code": {"sha256": "1"}}, r'code: expected null, got {"sha256": "1"}'),
    ],
)
def test_another_record_is_refused_with_its_first_difference(tmp_path, change, message):
    measure_two(tmp_path)
    with pytest.raises(ConfigError, match=message):
        ResultCache(tmp_path, "kind", {**RECORD, **change})


def test_a_refused_folder_is_not_locked(tmp_path):
    measure_two(tmp_path)
    with pytest.raises(ConfigError):
        ResultCache(tmp_path, "kind", {})
    measure_two(tmp_path)


def test_two_processes_do_not_share_a_folder(tmp_path):
    program = (
        "import sys; from pathlib import Path; from usvs.tasks.result_cache import ResultCache;"
        f"cache = ResultCache(Path(sys.argv[1]), 'kind', {RECORD!r}); print('locked', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "locked\n"
        with pytest.raises(ConfigError, match="is in use by another usvs process"):
            ResultCache(tmp_path, "kind", RECORD)
        other.kill()
    ResultCache(tmp_path, "kind", RECORD).close()  # a lock ends with its process, however that ends


def test_a_damaged_result_is_named(tmp_path):
    measure_two(tmp_path)
    file = tmp_path / "results" / "result_1_of_two.json"
    file.write_text(file.read_text()[:4])
    with pytest.raises(DataError, match=r"result_1_of_two.json.*remove the file to measure it again"):
        measure_two(tmp_path)


def test_equal_records_have_no_difference_and_a_missing_name_is_one():
    assert describe_difference(RECORD, json.loads(json.dumps(RECORD))) is None
    assert describe_difference({"a": None}, {}) == "a: expected null, got null"
    assert describe_difference({}, {"a": {"b": 1}}) == 'a: expected null, got {"b": 1}'
