"""The class table, own names, and the best classes of a row of logits."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnv1cli.errors import LabelsError
from mnv1cli.inference.ranking import softmax, top_k
from mnv1cli.labels import names as labels
from mnv1cli.labels.names import ClassName, imagenet, labels_for, read_labels, search

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mnv1cli.types import FloatArray

NAMES = tuple(ClassName(i, f"n{i}", f"class {i}") for i in range(8))


def finite_rows(
    least: float = -(2.0**127), most: float = 2.0**127
) -> st.SearchStrategy[FloatArray]:
    row = st.lists(st.floats(least, most, width=32), min_size=8, max_size=8)
    return st.lists(row, max_size=4).map(lambda rows: np.array(rows, np.float32).reshape(-1, 8))


def logits(*rows: Sequence[float]) -> FloatArray:
    return np.array(rows, np.float32)


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
        assert [name.class_id for name in search(pattern, imagenet())] == found

    @given(class_id=st.integers(0, 1000), swap=st.booleans())
    def test_finds_every_class_by_what_names_it(self, class_id: int, swap: bool) -> None:
        name = imagenet()[class_id]
        assert search(str(class_id), imagenet()) == [name]
        for text in (name.wnid, name.label, name.synonyms):
            assert name in search(text.swapcase() if swap else text, imagenet())

    def test_searches_own_names(self) -> None:
        own = (ClassName(0, "", "Straße"), ClassName(1, "", "Weg", "STRASSE"))
        assert search("strasse", own) == list(own)


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
        content = "\n".join([",".join(labels.FIELDS), *rows]).encode()
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
        assert labels_for(1001) == imagenet()

    def test_own_names_are_for_as_many_classes(self, tmp_path: Path) -> None:
        assert len(labels_for(3, self.own(tmp_path, 3))) == 3
        assert labels_for(1001, self.own(tmp_path, 1001))[0].label == "class 0"

    @pytest.mark.parametrize("classes", [1, 1000, 1002])
    def test_built_in_names_for_another_number_point_to_the_option(self, classes: int) -> None:
        with pytest.raises(LabelsError, match=f"1001 names.*{classes} classes.*--labels"):
            labels_for(classes)

    @pytest.mark.parametrize(("count", "classes"), [(2, 3), (1001, 1000), (1000, 5), (5, 1001)])
    def test_own_names_of_another_number_are_refused(
        self, tmp_path: Path, count: int, classes: int
    ) -> None:
        reason = f"own.txt has {count} names, the module {classes} classes"
        with pytest.raises(LabelsError, match=reason) as caught:
            labels_for(classes, self.own(tmp_path, count))
        assert "background" not in str(caught.value)
        assert caught.value.remedy

    def test_a_thousand_own_names_lack_the_background(self, tmp_path: Path) -> None:
        with pytest.raises(LabelsError, match=r"1000 names.*1001 classes.*background"):
            labels_for(1001, self.own(tmp_path, 1000))


class TestSoftmax:
    @given(rows=finite_rows())
    def test_sums_to_one_however_huge_the_logits(self, rows: FloatArray) -> None:
        probabilities = softmax(rows)
        assert probabilities.dtype == np.float64
        assert probabilities.shape == rows.shape
        assert ((probabilities >= 0) & (probabilities <= 1)).all()
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-12)

    @given(
        rows=st.lists(st.integers(-1000, 1000), min_size=8, max_size=8),
        shift=st.integers(-(1 << 20), 1 << 20),
    )
    def test_does_not_depend_on_a_shift(self, rows: list[int], shift: int) -> None:
        # Integers of this size are exact in float32, so nothing is lost before the softmax.
        values = np.array([rows], np.float32)
        np.testing.assert_array_equal(softmax(values), softmax(values + np.float32(shift)))

    @given(rows=finite_rows(-50, 50))
    def test_is_its_definition(self, rows: FloatArray) -> None:
        powers = np.exp(rows.astype(np.float64))
        expected = powers / powers.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(softmax(rows), expected, rtol=1e-12)

    def test_of_rows_does_not_depend_on_their_neighbours(self) -> None:
        rows = np.random.default_rng(0).standard_normal((5, 1001), np.float32)
        together = softmax(rows)
        for row, expected in zip(rows, together, strict=True):
            np.testing.assert_array_equal(softmax(row[np.newaxis])[0], expected)


class TestTopK:
    def test_gives_the_best_first_with_their_names(self) -> None:
        rows = logits([0, 3, 1, 2, -1, -2, -3, -4], [5, 0, 0, 0, 0, 0, 0, 9])
        first, second = top_k(rows, NAMES, 3)
        assert [(p.rank, p.class_id, p.wnid, p.label) for p in first] == [
            (1, 1, "n1", "class 1"),
            (2, 3, "n3", "class 3"),
            (3, 2, "n2", "class 2"),
        ]
        assert [p.class_id for p in second] == [7, 0, 1]

    @given(rows=finite_rows(-30, 30), top=st.integers(1, 12))
    def test_is_its_definition(self, rows: FloatArray, top: int) -> None:
        probabilities = softmax(rows).astype(np.float32)
        found = top_k(rows, NAMES, top)
        assert len(found) == len(rows)
        for row, chances, best in zip(rows.tolist(), probabilities.tolist(), found, strict=True):
            order = sorted(range(8), key=lambda i: (-row[i], i))[:top]
            assert [p.class_id for p in best] == order
            assert [p.probability for p in best] == [chances[i] for i in order]
            assert [p.rank for p in best] == list(range(1, len(order) + 1))

    def test_takes_the_lower_id_of_equal_ones(self) -> None:
        (best,) = top_k(logits([1, 2, 2, 1, 2, 1, 1, 1]), NAMES, 5)
        assert [p.class_id for p in best] == [1, 2, 4, 0, 3]

    @pytest.mark.parametrize(("top", "count"), [(1, 1), (8, 8), (9, 8), (1000, 8)])
    def test_is_clipped_to_the_classes(self, top: int, count: int) -> None:
        (best,) = top_k(logits([0] * 8), NAMES, top)
        assert len(best) == count

    @pytest.mark.parametrize(
        ("least", "count"), [(0, 8), (0.0001, 3), (0.2, 2), (0.5, 1), (0.7, 0), (1, 0)]
    )
    def test_leaves_out_what_is_less_probable(self, least: float, count: int) -> None:
        # e^2, e^1 and 1 of their sum: 0.665, 0.245, 0.090.
        rows = logits([20, 19, 18, 0, 0, 0, 0, 0], [3] + [-90] * 7)
        best, certain = top_k(rows, NAMES, 8, least)
        assert [p.rank for p in best] == list(range(1, count + 1))
        assert certain[0].probability == 1

    @given(rows=finite_rows(-30, 30), which=st.integers(0, 7))
    def test_keeps_what_has_just_the_probability_that_is_asked_for(
        self, rows: FloatArray, which: int
    ) -> None:
        for row in rows:
            (every,) = top_k(row[np.newaxis], NAMES, 8)
            limit = float(f"{every[which].probability:.9g}")
            (kept,) = top_k(row[np.newaxis], NAMES, 8, limit)
            assert kept == tuple(p for p in every if p.probability >= every[which].probability)

    def test_of_no_rows_is_nothing(self) -> None:
        assert top_k(np.empty((0, 8), np.float32), NAMES, 5) == []

    def test_gives_plain_numbers(self) -> None:
        # numpy's would not go into JSON.
        ((best,),) = top_k(logits([0, 1]), NAMES, 1)
        assert (type(best.class_id), type(best.probability)) == (int, float)


def test_a_module_may_bring_its_names(tmp_path: Path) -> None:
    (tmp_path / "assets").mkdir()
    (tmp_path / labels.ASSET).write_text("class_id,wnid,label,synonyms\n0,,cat,\n1,,dog,\n")
    own = tmp_path / "own.txt"
    own.write_text("a\nb\n")
    assert [name.label for name in labels.labels_for(2, None, tmp_path)] == ["cat", "dog"]
    assert [name.label for name in labels.labels_for(2, own, tmp_path)] == ["a", "b"]
    assert labels.labels_for(1001, None, tmp_path / "elsewhere") == labels.imagenet()
    with pytest.raises(LabelsError, match=r"labels\.csv has 2 names, the module 3 classes"):
        labels.labels_for(3, None, tmp_path)
