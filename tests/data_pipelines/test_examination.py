"""What an examination of a dataset finds, against what the test put there."""

import shutil

import numpy as np
import PIL.Image
import pytest
import scipy.sparse
from photographs import encoded

from keras_mixer.data import examination, examine, prepare
from keras_mixer.data.examination import headers, save_contact_sheet
from keras_mixer.data.sources.layout import scan


def picture(seed: int, size: tuple[int, int] = (64, 48)) -> PIL.Image.Image:
    """Soft patches of random colours, which no other seed has."""
    patches = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), np.uint8)
    return PIL.Image.fromarray(patches).resize(size, PIL.Image.Resampling.BICUBIC)


def write(path, image, *arguments, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(image, *arguments, **options))


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Two classes in two splits and one in one, with one of everything that is wrong."""
    root = tmp_path_factory.mktemp("photos")
    for place, name in enumerate(("train/cat", "train/dog", "test/cat", "test/dog")):
        for number in range(3):
            write(root / name / f"00{number}.jpg", picture(3 * place + number))
    write(root / "train/owl/000.jpg", picture(50, (120, 90)), orientation=6)
    write(root / "train/owl/001.jpg", picture(51, (120, 90)))
    write(root / "train/cat/png.jpg", picture(52), "PNG")
    shutil.copy(root / "train/cat/000.jpg", root / "train/cat/copy.jpg")
    shutil.copy(root / "train/dog/000.jpg", root / "test/dog/copy.jpg")
    with PIL.Image.open(root / "train/dog/001.jpg") as image:  # smaller and coarser, in the wrong class
        image.resize((48, 36)).save(root / "train/cat/small.jpg", quality=70)
    (root / "train/cat/page.jpg").write_bytes(b"<html>404</html>")
    whole = (root / "train/dog/002.jpg").read_bytes()
    (root / "train/dog/half.jpg").write_bytes(whole[: len(whole) // 2])
    (root / "train/dog/notes.txt").touch()
    return root


@pytest.fixture(scope="module")
def report(photos):
    return examine(str(photos))


def test_progress_counts_every_image(photos, report):
    counts = []
    examine(str(photos), progress=counts.append)
    assert counts == list(range(1, len(report.images) + 1))


def test_counts_formats_orientations_and_sizes(report, photos):
    assert report.counts() == {
        "cat": {"test": 3, "train": 7},
        "dog": {"test": 4, "train": 4},
        "owl": {"test": 0, "train": 2},
    }
    assert report.formats() == {"JPEG": 18, "PNG": 1, "unknown": 1}
    assert report.turned() == 1
    assert report.sizes() == {"smallest": (48, 36), "median": (64, 48), "largest": (120, 90)}
    assert report.left_out == f"Left out of {photos}: 1 other file (notes.txt)."


def test_unreadable_images_are_named_with_the_reason(report, photos):
    assert [image.place for image in report.unreadable] == [
        str(photos / "train/cat/page.jpg"),
        str(photos / "train/dog/half.jpg"),
    ]
    assert "known format" in report.unreadable[0].problem
    assert "truncated" in report.unreadable[1].problem


def test_duplicates_within_and_across_splits_and_classes(report, photos):
    groups = {frozenset(group.places): group for group in report.duplicates}
    expected = {
        ("train/cat/000.jpg", "train/cat/copy.jpg"): (True, ("train",), ("cat",)),
        ("train/dog/000.jpg", "test/dog/copy.jpg"): (True, ("test", "train"), ("dog",)),
        ("train/dog/001.jpg", "train/cat/small.jpg"): (False, ("train",), ("cat", "dog")),
    }
    assert len(groups) == len(expected)
    for places, facts in expected.items():
        group = groups[frozenset(str(photos / place) for place in places)]
        assert (group.exact, group.splits, group.labels) == facts


def test_different_photographs_of_a_class_are_not_duplicates(tmp_path):
    for number in range(60):
        write(tmp_path / "ab"[number % 2] / f"{number}.png", picture(number, (20, 16)), "PNG")
    for name in "ab":
        (tmp_path / name / "empty.png").touch()  # equal, but neither is a picture
    assert examine(str(tmp_path)).duplicates == ()


def test_groups_of_near_duplicates_are_those_of_all_pairs():
    rng = np.random.default_rng(0)
    originals = rng.integers(0, 256, (8, 16, 18, 3))
    noise = rng.integers(-6, 7, (80, 16, 18, 3))  # three levels on average, so that some pairs are only in a chain
    thumbnails = np.clip(originals[np.arange(80) % 8] + noise * rng.integers(0, 4, (80, 1, 1, 1)), 0, 255)
    thumbnails = thumbnails.astype(np.uint8)
    grey = thumbnails.reshape(80, 8, 2, 9, 2, 3).mean(axis=(2, 4, 5))
    bits = (grey[:, :, 1:] > grey[:, :, :-1]).reshape(80, 64)
    apart = (bits[:, None] != bits).sum(axis=2)
    levels = np.abs(thumbnails[:, None].astype(float) - thumbnails).mean(axis=(2, 3, 4))
    _, expected = scipy.sparse.csgraph.connected_components((apart <= 3) & (levels <= 8))
    found = examination._near_groups(list(thumbnails))
    np.testing.assert_array_equal(found[:, None] == found, expected[:, None] == expected)
    assert 8 < len(set(expected)) < 80


def test_a_tfds_dataset_is_examined_like_a_folder(tmp_path):
    report = examine("digits")
    assert (len(report.images), report.formats()) == (1797, {"PNG": 1797})
    assert sum(report.counts()["3"].values()) == 183  # scikit-learn's count
    assert report.images[0].place == "example 0 of digits, split train"
    with pytest.raises(ValueError, match="digits is not a folder of images"):
        prepare(report, tmp_path / "clean")
    with pytest.raises(ValueError, match="`side` must be a positive integer"):
        prepare(report, tmp_path / "clean", side="1024")


@pytest.mark.parametrize("held_out", ["validation", "test"])
def test_splits_that_hold_images_out_are_kept(tmp_path, held_out):
    for place, folder in enumerate(("train/cat", "train/dog", f"{held_out}/cat", f"{held_out}/dog")):
        write(tmp_path / "photos" / folder / "one.jpg", picture(60 + place))
    assert prepare(examine(tmp_path / "photos"), tmp_path / "clean") == {"train": 2, held_out: 2}


def test_a_tenth_of_each_class_is_held_out_for_each_purpose(tmp_path):
    for label, count in {"cat": 30, "dog": 3}.items():
        for number in range(count):
            write(tmp_path / "photos" / label / f"{number:02}.jpg", picture(100 + count + number))
    counts = prepare(examine(tmp_path / "photos"), tmp_path / "clean")
    assert counts == {"train": 24 + 1, "validation": 3 + 1, "test": 3 + 1}

    def names(place):
        return sorted(path.stem for path in (tmp_path / "clean" / place).iterdir())

    assert names("validation/cat") == ["05", "15", "25"]
    assert names("test/cat") == ["09", "19", "29"]
    assert (names("validation/dog"), names("test/dog")) == (["01"], ["02"])


def test_headers_are_read_for_the_first_lines_of_a_run(photos):
    assert headers(scan(photos)) == (
        "20 of 20 headers read: 18 JPEG, 1 unknown, 1 PNG, 48 x 36 to 120 x 90 pixels, 1 stored turned."
    )


def test_a_file_that_is_gone_has_an_unknown_header(tmp_path):
    write(tmp_path / "cat/one.jpg", picture(70))
    (tmp_path / "dog").mkdir()
    (tmp_path / "dog/two.jpg").symlink_to("gone.jpg")
    assert headers(scan(tmp_path)) == "2 of 2 headers read: 1 JPEG, 1 unknown, 64 x 48 pixels."


def test_a_contact_sheet_shows_every_class_upright(report, tmp_path, monkeypatch):
    import matplotlib.axes

    shown = []
    monkeypatch.setattr(matplotlib.axes.Axes, "imshow", lambda self, image: shown.append(image))
    assert save_contact_sheet(report, tmp_path / "new" / "sheet.png").read_bytes().startswith(b"\x89PNG")
    assert len(shown) == 8 + 7 + 2  # of cat, dog and owl, those that can be read and at most eight
    upright = np.asarray(picture(50, (120, 90)).resize((96, 72)))
    assert np.abs(shown[-2].astype(float) - upright).mean() < 5
