"""The class table, own names, and the search in them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnv1cli.errors import LabelsError
from mnv1cli.labels.names import (
    FIELDS,
    ClassName,
    choose_labels,
    compute_digest,
    imagenet,
    read_labels,
    search_classes,
)

if TYPE_CHECKING:
    from pathlib import Path


class TestImagenet:
    def test_has_a_background_and_a_thousand_classes_in_order(self) -> None:
        names = imagenet()
        assert len(names) == 1001
        assert [name.class_id for name in names] == list(range(1001))
        assert names[0] == ClassName(0, "", "background")

    def test_every_class_has_a_wordnet_id_of_its_own(self) -> None:
        wnids = [name.wnid for name in imagenet()[1:]]
        assert len(set(wnids)) == 1000
        assert all(wnid[0] == "n" and wnid[1:].isdecimal() and len(wnid) == 9 for wnid in wnids)
        # The classes are numbered in the order of their WordNet ids.
        assert wnids == sorted(wnids)

    def test_two_labels_occur_twice(self) -> None:
        counts = Counter(name.label for name in imagenet())
        assert {label for label, count in counts.items() if count > 1} == {"crane", "maillot"}
        assert max(counts.values()) == 2
        assert "" not in counts

    @pytest.mark.parametrize(
        ("class_id", "wnid", "label", "synonyms"),
        [
            (1, "n01440764", "tench", "Tinca tinca"),
            (282, "n02123045", "tabby", "tabby cat"),
            (1000, "n15075141", "toilet tissue", "toilet paper; bathroom tissue"),
        ],
    )
    def test_names_known_classes(self, class_id: int, wnid: str, label: str, synonyms: str) -> None:
        assert imagenet()[class_id] == ClassName(class_id, wnid, label, synonyms)

    def test_is_read_once(self) -> None:
        assert imagenet() is imagenet()


class TestSearch:
    @pytest.mark.parametrize(
        ("pattern", "found"),
        [
            ("0", [0]),
            ("1", [1]),
            ("1000", [1000]),
            ("1001", []),
            ("n01440764", [1]),
            ("N01440764", [1]),
            ("01440764", [1]),
            ("n0144", [1, 2]),
            ("tench", [1]),
            ("TENCH", [1]),
            ("tinca", [1]),
            ("nca ti", [1]),
            ("background", [0]),
            ("toilet", [862, 1000]),
            ("Maillot", [639, 640]),
            ("crane", [135, 518]),
            ("no such thing", []),
        ],
    )
    def test_finds_by_id_wordnet_id_label_and_synonym(self, pattern: str, found: list[int]) -> None:
        assert [name.class_id for name in search_classes(pattern, imagenet())] == found

    @given(class_id=st.integers(0, 1000), swap=st.booleans())
    def test_finds_every_class_by_what_names_it(self, class_id: int, swap: bool) -> None:
        name = imagenet()[class_id]
        assert search_classes(str(class_id), imagenet()) == [name]
        for text in (name.wnid, name.label, name.synonyms):
            assert name in search_classes(text.swapcase() if swap else text, imagenet())

    def test_searches_own_names(self) -> None:
        own = (ClassName(0, "", "Straße"), ClassName(1, "", "Weg", "STRASSE"))
        assert search_classes("strasse", own) == list(own)


class TestOwnNames:
    def file(self, tmp_path: Path, content: bytes) -> Path:
        path = tmp_path / "labels.txt"
        path.write_bytes(content)
        return path

    @pytest.mark.parametrize(
        ("content", "found"),
        [
            (b"cat\ndog\n", ["cat", "dog"]),
            (b"cat\ndog", ["cat", "dog"]),
            (b"cat\r\ndog\r\n", ["cat", "dog"]),
            (b" cat \n\tdog\n", ["cat", "dog"]),
            (b"\xef\xbb\xbfcat\ndog\n", ["cat", "dog"]),
            (b"cat, tabby\ndog\n", ["cat, tabby", "dog"]),
            ("Kätzchen\n犬\n".encode(), ["Kätzchen", "犬"]),
            (b"cat\n\ndog\n", ["cat", "", "dog"]),
        ],
    )
    def test_are_a_line_a_class(self, tmp_path: Path, content: bytes, found: list[str]) -> None:
        names = read_labels(self.file(tmp_path, content))
        assert names == tuple(ClassName(i, "", label) for i, label in enumerate(found))

    @pytest.mark.parametrize(
        ("content", "found"),
        [
            (
                b"class_id,wnid,label,synonyms\n0,n1,cat,tabby; mog\n1,n2,dog,\n",
                [ClassName(0, "n1", "cat", "tabby; mog"), ClassName(1, "n2", "dog")],
            ),
            (b"label\ncat\ndog\n", [ClassName(0, "", "cat"), ClassName(1, "", "dog")]),
            (b"label,wnid\ncat,n1\n", [ClassName(0, "n1", "cat")]),
            (b"wnid,label\nn1\nn2,x\n", [ClassName(0, "n1", ""), ClassName(1, "n2", "x")]),
            (b'class_id,label\n0,"cat, ""the"""\n', [ClassName(0, "", 'cat, "the"')]),
            (b"\xef\xbb\xbfclass_id,label\r\n0,cat\r\n", [ClassName(0, "", "cat")]),
        ],
    )
    def test_may_be_a_csv_of_which_only_the_label_must_be(
        self, tmp_path: Path, content: bytes, found: list[ClassName]
    ) -> None:
        assert read_labels(self.file(tmp_path, content)) == tuple(found)

    def test_may_be_the_built_in_table_itself(self, tmp_path: Path) -> None:
        rows = [f'{n.class_id},{n.wnid},"{n.label}","{n.synonyms}"' for n in imagenet()]
        content = "\n".join([",".join(FIELDS), *rows]).encode()
        assert read_labels(self.file(tmp_path, content)) == imagenet()

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (b"", "empty"),
            (b"\n \n\t\n", "empty"),
            (b"\xef\xbb\xbf", "empty"),
            (b"class_id,label\n", "empty"),
            (b"cat\n\xff\n", "not UTF-8"),
            (b"class_id,label\n1,cat\n2,dog\n", "row 1 has the class id '1', not 0"),
            (b"class_id,label\n0,cat\n0,dog\n", "row 2 has the class id '0', not 1"),
            (b"class_id,label\n0,cat\nx,dog\n", "row 2 has the class id 'x', not 1"),
        ],
    )
    def test_that_cannot_be_used_are_refused_with_the_reason(
        self, tmp_path: Path, content: bytes, reason: str
    ) -> None:
        with pytest.raises(LabelsError, match=reason) as caught:
            read_labels(self.file(tmp_path, content))
        assert "labels.txt" in str(caught.value)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("name", ["gone.txt", "", "labels.txt/below"])
    def test_that_cannot_be_read_are_refused(self, tmp_path: Path, name: str) -> None:
        self.file(tmp_path, b"cat\n")
        with pytest.raises(LabelsError, match="cannot read the labels in"):
            read_labels(tmp_path / name)


class TestFit:
    def own(self, tmp_path: Path, count: int) -> Path:
        path = tmp_path / "own.txt"
        path.write_text("".join(f"class {i}\n" for i in range(count)))
        return path

    def test_built_in_names_are_for_1001_classes(self) -> None:
        assert choose_labels(1001) == imagenet()

    def test_own_names_are_for_as_many_classes(self, tmp_path: Path) -> None:
        assert len(choose_labels(3, self.own(tmp_path, 3))) == 3
        assert choose_labels(1001, self.own(tmp_path, 1001))[0].label == "class 0"

    def test_1000_classes_have_the_built_in_names_without_the_background(self) -> None:
        names = choose_labels(1000)
        assert [name.class_id for name in names] == list(range(1000))
        assert [(name.wnid, name.label) for name in names] == [
            (name.wnid, name.label) for name in imagenet()[1:]
        ]
        assert compute_digest(names) != compute_digest(imagenet())

    @pytest.mark.parametrize("classes", [1, 999, 1002])
    def test_built_in_names_for_another_number_point_to_the_option(self, classes: int) -> None:
        with pytest.raises(LabelsError, match=f"1001 names.*{classes} classes.*--labels"):
            choose_labels(classes)

    @pytest.mark.parametrize(("count", "classes"), [(2, 3), (1001, 1000), (1000, 5), (5, 1001)])
    def test_own_names_of_another_number_are_refused(
        self, tmp_path: Path, count: int, classes: int
    ) -> None:
        reason = f"own.txt has {count} names, the module {classes} classes"
        with pytest.raises(LabelsError, match=reason) as caught:
            choose_labels(classes, self.own(tmp_path, count))
        assert "background" not in str(caught.value)
        assert caught.value.remedy

    def test_a_thousand_own_names_lack_the_background(self, tmp_path: Path) -> None:
        with pytest.raises(LabelsError, match=r"1000 names.*1001 classes.*background"):
            choose_labels(1001, self.own(tmp_path, 1000))


def test_a_module_may_bring_its_names(tmp_path: Path) -> None:
    asset, own = tmp_path / "labels.csv", tmp_path / "own.txt"
    asset.write_text("class_id,wnid,label,synonyms\n0,,cat,\n1,,dog,\n")
    own.write_text("a\nb\n")
    assert [name.label for name in choose_labels(2, None, asset)] == ["cat", "dog"]
    assert [name.label for name in choose_labels(2, own, asset)] == ["a", "b"]
    with pytest.raises(LabelsError, match=r"labels\.csv has 2 names, the module 3 classes"):
        choose_labels(3, None, asset)
