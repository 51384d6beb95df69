"""Predictions on disk, and what a run finds there."""

import pyarrow.parquet as pq
import pytest

from keras_mixer.prediction import Prediction, PredictionStore

MADE_BY = {"model": "one", "top": 2}
GOOD = Prediction("/a.png", (3, 1), ("three", "one"), (0.75, 0.25))
BAD = Prediction("/b.png", error="/b.png is not readable")


@pytest.fixture
def store(tmp_path):
    store = PredictionStore(tmp_path / "new" / "store")
    store.open(MADE_BY)
    return store


def test_rows_as_any_reader_of_parquet_finds_them(store):
    store.write([GOOD, BAD])
    store.write([GOOD, BAD])  # a part that is made twice is there once
    rows = pq.read_table(store.location.path).to_pylist()  # a folder, the manifest in it passed over
    assert rows == [
        {"path": "/a.png", "classes": [3, 1], "labels": ["three", "one"], "scores": [0.75, 0.25], "error": None},
        {"path": "/b.png", "classes": None, "labels": None, "scores": None, "error": "/b.png is not readable"},
    ]
    assert store.done() == {"/a.png", "/b.png"}
    assert store.counts() == (2, 1)


def test_a_store_at_a_uri():
    store = PredictionStore("memory://bucket/store")
    try:
        store.open(MADE_BY)
        store.write([GOOD, BAD])
        store.forget_errors()
        assert store.done() == {"/a.png"}
        with pytest.raises(ValueError, match=r"memory://.*bucket/store holds predictions"):
            store.open({})
        store.open({}, restart=True)
        assert store.done() == set()
        assert [name.rpartition("/")[2] for name in store.location.filesystem.find("/bucket")] == ["_manifest.json"]
    finally:
        store.location.filesystem.rm("/bucket", recursive=True)


def test_an_empty_store_has_nothing_done(store):
    assert store.done() == set()
    assert store.counts() == (0, 0)


def test_errors_are_forgotten_on_demand_alone(store):
    store.write([GOOD, BAD])
    store.write([Prediction("/c.png", error="no")])
    assert store.done() == {"/a.png", "/b.png", "/c.png"}
    store.forget_errors()
    assert store.done() == {"/a.png"}
    assert store.read().to_pylist()[0]["labels"] == ["three", "one"]


def test_predictions_of_something_else_are_kept_and_refused(store):
    store.write([GOOD])
    again = PredictionStore(store.location.path)
    again.open(MADE_BY)
    with pytest.raises(ValueError, match=r"model 'one' then, 'two' now.*--restart"):
        again.open({"model": "two", "top": 2})
    with pytest.raises(ValueError, match="top 2 then, 3 now"):
        again.open({"model": "one", "top": 3})
    assert again.done() == {"/a.png"}
    again.open({"model": "two", "top": 2}, restart=True)
    assert again.done() == set()
    again.open({"model": "two", "top": 2})


def test_a_table_that_is_listed_goes_on_and_a_new_one_needs_names_of_its_own(store):
    store.admit({"/one.parquet": ["/a.png", "/b.png"]})
    store.write([GOOD])
    again = PredictionStore(store.location.path)
    again.open(MADE_BY)
    again.admit({"/one.parquet": ["/a.png", "/b.png"]})
    manifest = (again.location / "_manifest.json").read()
    with pytest.raises(ValueError, match=r"^/two\.parquet is new in .*'/a\.png'.* could not be told apart"):
        again.admit({"/one.parquet": ["/a.png"], "/two.parquet": ["/c.png", "/a.png"]})
    assert (again.location / "_manifest.json").read() == manifest
    again.admit({"/two.parquet": ["/c.png"]})
    again.open(MADE_BY, restart=True)
    again.write([BAD])
    with pytest.raises(ValueError, match="told apart"):
        again.admit({"/one.parquet": ["/b.png"]})


def test_a_folder_of_other_files_is_refused_and_left_alone(tmp_path):
    (tmp_path / "part-of-mine.parquet").write_bytes(b"mine")
    with pytest.raises(ValueError, match=r"holds files but no _manifest\.json"):
        PredictionStore(tmp_path).open(MADE_BY)
    assert [file.name for file in tmp_path.iterdir()] == ["part-of-mine.parquet"]


def test_restarting_leaves_the_files_of_others_alone(tmp_path):
    for name in ("part-00000.parquet", ".partial-12-5f-epoch.keras"):
        (tmp_path / name).write_bytes(b"of another program")
    for restart in (False, True):
        with pytest.raises(ValueError, match=r"holds files but no _manifest\.json"):
            PredictionStore(tmp_path).open(MADE_BY, restart=restart)
    assert sorted(file.name for file in tmp_path.iterdir()) == [".partial-12-5f-epoch.keras", "part-00000.parquet"]


def test_a_run_that_was_killed_before_its_first_file_is_started_again(tmp_path):
    (tmp_path / ".partial-123-_manifest.json").write_text("{")
    PredictionStore(tmp_path).open(MADE_BY)
    assert [file.name for file in tmp_path.iterdir()] == ["_manifest.json"]


def test_images_with_two_rows_are_found(store):
    store.write([GOOD, BAD])
    assert store.repeated() == []
    store.write([GOOD])
    assert store.repeated() == ["/a.png"]


def test_half_written_files_are_no_parts_and_go(store, tmp_path):
    store.write([GOOD])
    half = tmp_path / "new" / "store" / ".partial-123-part-0.parquet"
    half.write_bytes(b"PAR1")
    foreign = half.with_name(".partial-123-0badf00d-part-0.parquet")
    foreign.write_bytes(b"of another program")
    assert store.done() == {"/a.png"}
    store.open(MADE_BY)
    assert not half.exists()
    assert foreign.exists()


def test_a_damaged_part_or_manifest_is_named(store, tmp_path):
    (tmp_path / "new" / "store" / "part-0.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match=r"part-0\.parquet"):
        store.done()
    (tmp_path / "new" / "store" / "_manifest.json").write_text("{")
    with pytest.raises(ValueError, match=r"_manifest\.json is damaged"):
        store.open(MADE_BY)
