import pytest

from usvs.errors import DataError
from usvs.experiments.video_labels import read_video_labels
from usvs.store.catalogue import Catalogue

PATIENTS = ["9a7000000000", "9a7000000001"]
PATHS = ["covid/a.mp4", "covid/b.mp4", "healthy/a.mp4", "healthy/c.mp4"]


@pytest.fixture(scope="module")
def store(store_writer, tmp_path_factory):
    """Four videos in two folders; both folders have an a.mp4."""
    return store_writer(tmp_path_factory.mktemp("videos") / "store", PATIENTS, paths=PATHS)


@pytest.fixture
def labels(store, tmp_path):
    """Reads labels from the lines of a csv."""

    def read(*lines, header="file,label,source_id", classes=("x", "y")):
        (tmp_path / "labels.csv").write_text("\n".join([header, *lines]) + "\n")
        return read_video_labels(store, tmp_path / "labels.csv", classes)

    return read


def test_videos_are_found_by_their_path_in_the_archive(labels):
    found = labels("healthy/a.mp4,x,1", "covid/a.mp4,y,2", "covid\\b.mp4,x,3")
    assert found.label == {2: 0, 0: 1, 1: 0}
    assert found.source == {2: "1", 0: "2", 1: "3"}
    assert sorted(found.of_sources(["1", "3"])) == [1, 2]


def test_a_file_name_is_enough_where_it_is_unique(labels):
    assert labels("b.mp4,x,1", "c.mp4,y,2").label == {1: 0, 3: 1}


def test_an_ambiguous_file_name_is_refused_with_both_paths(labels):
    message = r"line 3: 'a.mp4' fits 2 videos, 'covid/a.mp4' and 'healthy/a.mp4': write the path in the archive"
    with pytest.raises(DataError, match=message):
        labels("b.mp4,x,1", "a.mp4,y,2")


def test_a_path_of_another_folder_is_not_matched_by_its_file_name(labels, caplog):
    assert labels("other/b.mp4,x,1", "covid/a.mp4,x,1", "c.mp4,y,2").label == {0: 0, 3: 1}
    assert "labels: 2 videos of 2 sources; 1 lines skipped: not in the store" in caplog.text


def test_other_classes_are_skipped_and_counted(labels, caplog):
    assert labels("b.mp4,x,1", "c.mp4,y,2", "covid/a.mp4,z,3", "gone.mp4,x,4").label == {1: 0, 3: 1}
    assert "1 lines skipped: not in the store; 1 lines skipped: other classes" in caplog.text


def test_two_labels_of_one_video_are_refused(labels):
    assert labels("b.mp4,x,1", "covid/b.mp4,x,1", "c.mp4,y,2").label == {1: 0, 3: 1}
    with pytest.raises(DataError, match=r"line 3: 'covid/b.mp4' has another label or source in an earlier line"):
        labels("b.mp4,x,1", "covid/b.mp4,y,1")


def test_missing_columns_and_classes_are_named(labels):
    with pytest.raises(
        DataError, match=r"expected a column 'file', got 'label', 'source_id', 1 other column of unknown name"
    ):
        labels("a.mp4,x,1", header="name,label,source_id")
    with pytest.raises(DataError, match="expected videos of at least two of the classes x, y"):
        labels("b.mp4,x,1", "c.mp4,x,2")


def test_a_label_of_a_video_that_is_skipped_is_not_taken_for_another(labels, caplog, monkeypatch):
    paths = Catalogue.paths.fget
    monkeypatch.setattr(Catalogue, "paths", property(lambda catalogue: {**paths(catalogue), "skipped": "b.mp4"}))
    assert labels("b.mp4;x;1", "covid/b.mp4; x;2", "c.mp4;y;3", header="file;label;source_id").source == {
        1: "2",
        3: "3",
    }
    assert "1 lines skipped: not in the store" in caplog.text


def test_a_video_without_a_source_is_refused(labels):
    with pytest.raises(DataError, match=r"line 3: expected a value in column 'source_id', got none"):
        labels("b.mp4,x,1", "c.mp4,y")
