"""What images show, by folders and by lists."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from mnv1cli.analysis.truth import FolderTruth, ListTruth, ResolvedTruth, SavedTruth
from mnv1cli.errors import LabelsError, MissingInputError
from mnv1cli.labels.names import ClassName, find_classes, imagenet

if TYPE_CHECKING:
    from pathlib import Path

CAT = imagenet()[282]
TWICE = {
    label: tuple(name.class_id for name in imagenet() if name.label == label)
    for label in ("crane", "maillot")
}


class Told:
    """A truth that says of every path what it is made with."""

    def __init__(self, *names: str) -> None:
        self.names = names

    def find_names(self, path: bytes) -> tuple[str, ...]:
        return self.names

    def count_unused(self) -> int:
        return 0


def told(*names: str) -> ResolvedTruth:
    return ResolvedTruth(Told(*names), imagenet())  # type: ignore[arg-type]


class TestClasses:
    @pytest.mark.parametrize(
        "text",
        ["n02123045", "N02123045", "n02123045_tabby", "n02123045 what ever", "n02123045-1", "282",
         "tabby", "Tabby", "tabby_cat", "TABBY CAT", " tabby "],
    )  # fmt: skip
    def test_are_told_by_id_wordnet_id_label_and_synonym(self, text: str) -> None:
        assert find_classes(text, imagenet()) == (CAT.class_id,)

    def test_are_all_told_by_what_names_them(self) -> None:
        for name in imagenet()[1:]:
            expected = TWICE.get(name.label, (name.class_id,))
            assert find_classes(name.wnid, imagenet()) == (name.class_id,)
            assert find_classes(str(name.class_id), imagenet()) == (name.class_id,)
            assert find_classes(name.label, imagenet()) == expected
            assert find_classes(name.label.replace(" ", "_"), imagenet()) == expected

    @pytest.mark.parametrize(
        ("text", "found"),
        [
            ("Cardigan", (265,)),
            ("cardigan", (475,)),
            ("CARDIGAN", (265, 475)),
            ("Crane", TWICE["crane"]),
        ],
    )
    def test_that_only_case_tells_apart_are_ambiguous_in_another(
        self, text: str, found: tuple[int, ...]
    ) -> None:
        assert find_classes(text, imagenet()) == found

    @pytest.mark.parametrize(
        "text", ["", " ", "_", "1001", "n02123045x", "n0212304", "n99999999", "tabb", "no such"]
    )
    def test_that_nobody_has_are_none(self, text: str) -> None:
        assert find_classes(text, imagenet()) == ()

    def test_may_have_names_of_ones_own_like_wordnet_ids(self) -> None:
        names = [ClassName(0, "", "n02123045"), ClassName(1, "", "n02123046")]
        assert find_classes("n02123046", names) == (1,)


class TestFolders:
    @pytest.fixture(autouse=True)
    def _here(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "photos" / "tabby" / "young").mkdir(parents=True)
        monkeypatch.chdir(tmp_path)

    @pytest.mark.parametrize(
        ("root", "path"),
        [
            (b"photos", b"photos/tabby/a.jpg"),
            (b"photos", b"photos/tabby/young/a.jpg"),
            (b"photos/", b"photos/tabby/young/a.jpg"),
            (b"photos//", b"photos//tabby/young/a.jpg"),
            (b"./photos/.", b"./photos/./tabby/young/a.jpg"),
            (b".", b"./tabby/young/a.jpg"),
            (b"photos/tabby", b"photos/tabby/a.jpg"),
            (b"photos/tabby/a.jpg", b"photos/tabby/a.jpg"),
            (b"photos/*/*.jpg", b"photos/tabby/a.jpg"),
            (b"elsewhere", b"/photos/tabby/a.jpg"),
        ],
    )
    def test_tell_by_the_first_below_the_input_or_the_one_around(
        self, root: bytes, path: bytes
    ) -> None:
        assert tuple(FolderTruth([root]).find_names(path)) == ("tabby",)

    def test_tell_of_an_image_in_the_working_directory(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir("photos/tabby")
        assert tuple(FolderTruth([b"."]).find_names(b"./a.jpg")) == ("tabby",)
        assert tuple(FolderTruth().find_names(b"a.jpg")) == ("tabby",)

    @pytest.mark.parametrize("path", [b"", b"/a.jpg"])
    def test_tell_nothing_where_there_are_none(self, path: bytes) -> None:
        assert not FolderTruth().find_names(path)

    def test_have_any_name(self) -> None:
        assert tuple(FolderTruth().find_names(b"x/l\xe9/a.jpg")) == ("l\udce9",)

    @pytest.mark.parametrize(
        ("paths", "names"),
        [
            (["p/a/1.jpg", "p/b/2.jpg"], [["a"], ["b"]]),
            (["p/a/x/1.jpg", "p/b/2.jpg"], [["a", "x"], ["b"]]),
            (["p/a/x/1.jpg", "p/a/x/2.jpg"], [["x"], ["x"]]),
            (["/p/a/1.jpg", "/p/b/x/2.jpg"], [["a"], ["b", "x"]]),
            (["/p/a/1.jpg", "q/b/2.jpg"], [["p", "a"], ["q", "b"]]),
            (["./p//a/1.jpg", "./p//b/2.jpg"], [["a"], ["b"]]),
            (["val/a/1.jpg", "train/b/2.jpg"], [["val", "a"], ["train", "b"]]),
            (["p/a/1.jpg", "p/2.jpg"], [["a"], ["p"]]),
        ],
    )
    def test_of_a_result_are_those_below_the_one_that_has_all(
        self, paths: list[str], names: list[list[str]]
    ) -> None:
        raw = [os.fsencode(path) for path in paths]
        truth = SavedTruth(raw)
        assert [list(truth.find_names(path)) for path in raw] == names

    def test_of_an_empty_result_are_none(self) -> None:
        assert list(SavedTruth([]).find_names(b"a/b.jpg")) == ["a"]


class TestLists:
    @pytest.fixture
    def file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "lists").mkdir()
        return tmp_path / "lists" / "truth.csv"

    @pytest.mark.parametrize(
        ("listed", "path"),
        [
            ("photos/a.jpg", b"photos/a.jpg"),
            ("./photos//a.jpg", b"photos/a.jpg"),
            ("a.jpg", b"any/where/a.jpg"),
            ("../photos/a.jpg", b"photos/a.jpg"),
            ("sub/a.jpg", b"root/sub/a.jpg"),
            ("sub/a.jpg", b"lists/sub/a.jpg"),
            ("l\udce9.jpg", b"photos/l\xe9.jpg"),
        ],
    )
    def test_name_images_in_many_ways(self, file: Path, listed: str, path: bytes) -> None:
        file.write_bytes(b"path,label\n" + os.fsencode(listed) + b",tabby\n")
        truth = ListTruth(file, [b"root"])
        assert truth.count_unused() == 1
        assert tuple(truth.find_names(path)) == ("tabby",)
        assert truth.count_unused() == 0

    def test_name_absolute_paths(self, file: Path, tmp_path: Path) -> None:
        file.write_text(f"path,label\n{tmp_path}/photos/a.jpg,tabby\n")
        assert tuple(ListTruth(file).find_names(b"photos/a.jpg")) == ("tabby",)

    def test_do_not_name_an_image_of_another_folder(self, file: Path) -> None:
        file.write_text("path,label\none/a.jpg,tabby\n")
        assert not ListTruth(file).find_names(b"two/a.jpg")

    @pytest.mark.parametrize(
        "content",
        [
            b"\xef\xbb\xbfpath,label\r\na.jpg,tabby\r\n",
            b"path,label\na.jpg, tabby \n\n",
            b'label,more,path\n"tabby",,a.jpg\n',
            b"path,label\na.jpg,tabby\nb.jpg,\nc.jpg\na.jpg,tabby\n",
        ],
    )
    def test_are_csv_as_people_have_it(self, file: Path, content: bytes) -> None:
        file.write_bytes(content)
        truth = ListTruth(file)
        assert tuple(truth.find_names(b"a.jpg")) == ("tabby",)
        assert not truth.find_names(b"b.jpg")
        assert truth.count_unused() == 0

    def test_name_the_images_where_they_are(self, file: Path, tmp_path: Path) -> None:
        for name in ("a.jpg", "lists/a.jpg", "lists/b.jpg"):
            (tmp_path / name).touch()
        file.write_text("path,label\na.jpg,1\nb.jpg,1\nnone.jpg,1\n")
        beside = os.fsencode(file.parent / "b.jpg")
        assert list(ListTruth(file).images()) == [b"a.jpg", beside, b"none.jpg"]

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            ("", "no columns 'path' and 'label'"),
            ("name,class\na.jpg,1\n", "no columns 'path' and 'label'"),
            ("path\tlabel\na.jpg\t1\n", "no columns 'path' and 'label'"),
            ("path,label\na.jpg,1\na.jpg,2\n", "two labels for a.jpg"),
            ("path,label\na.jpg,1\n./a.jpg,2\n", "two labels for ./a.jpg"),
            ("path,label\na.jpg,crane, bird\n", "line 2 of .* more cells than the header"),
            ("label,path\ntabby\n", "line 2 of .* has no path"),
            ('path,label\n"a.jpg,1\n', "is not a CSV"),
        ],
    )
    def test_that_are_wrong_are_refused(self, file: Path, content: str, said: str) -> None:
        file.write_text(content)
        with pytest.raises(LabelsError, match=said):
            ListTruth(file)

    def test_that_are_not_there_are_refused(self, file: Path) -> None:
        with pytest.raises(MissingInputError, match="no such file"):
            ListTruth(file)
        with pytest.raises(LabelsError, match="Is a directory"):
            ListTruth(file.parent)


class TestResolvedTruth:
    def test_takes_the_first_name_that_is_one_class(self) -> None:
        assert told("photos", "crane", "tabby", "espresso").find_class(b"a") == CAT.class_id

    @pytest.mark.parametrize(
        ("names", "images", "said"),
        [
            (["dog house"], 1,
             "1 image is of a class that the module does not have: dog house"),
            (["dog house"], 2,
             "2 images are of a class that the module does not have: dog house"),
            (["crane"], 1,
             "1 image is of a label that two classes have: crane; "
             "name the class by WordNet id or class id"),
            (["a\x1b[2J\udce9"], 1,
             "1 image is of a class that the module does not have: a\\x1b[2J\\xe9"),
            ([], 1, "the truth of 1 image is unknown: i0"),
            ([], 3, "the truth of 3 images is unknown: i0, ..."),
        ],
    )  # fmt: skip
    def test_says_what_was_left_out(self, names: list[str], images: int, said: str) -> None:
        resolved = told(*names)
        assert [resolved.find_class(b"i%d" % i) for i in range(images)] == [None] * images
        assert list(resolved.remarks()) == [said]

    def test_names_the_most_frequent_five(self) -> None:
        truth = Told()
        resolved = ResolvedTruth(truth, imagenet())  # type: ignore[arg-type]
        for i, name in enumerate("abcdef"):
            truth.names = (f"no {name}",)
            for _ in range(i + 1):
                resolved.find_class(b"x")
        [said] = resolved.remarks()
        assert said.startswith("21 images are of classes that")
        assert said.endswith(": no f, no e, no d, no c, no b, ...")

    def test_counts_the_entries_that_were_not_asked_for(self, tmp_path: Path) -> None:
        file = tmp_path / "t.csv"
        file.write_text("path,label\na,1\nb,1\nc,1\nd,1\n")
        resolved = ResolvedTruth(ListTruth(file), imagenet())
        assert resolved.find_class(b"a") == 1
        resolved.note_failed(b"b")
        assert list(resolved.remarks()) == [
            "2 entries of the truth without an image among those that were given"
        ]
        resolved.find_class(b"c")
        assert list(resolved.remarks()) == [
            "1 entry of the truth without an image among those that were given"
        ]
