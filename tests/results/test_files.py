"""The files of a run: complete under their names, or not there."""

from __future__ import annotations

import io
import json
import os
import re
from pathlib import Path

import pytest

from mnv1cli.errors import OptionError, OutputError
from mnv1cli.results import files
from mnv1cli.results.files import ResultFiles
from mnv1cli.results.protection import give_name, refuse_to_replace


def refuse_links(*_: object, **__: object) -> None:
    """Do as a file system without links."""
    raise PermissionError(1, "Operation not permitted")


class TestResultFiles:
    @pytest.fixture(autouse=True)
    def _change_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)

    def fill(self, outputs: ResultFiles, *others: Path) -> None:
        """Write something into every file there may be."""
        outputs.open_main().write(b"main")
        for path in (*outputs.sidecars, *others):
            outputs.open(path).write(b"beside")
        if outputs.meta is not None:
            outputs.write_json(outputs.meta, {"key": "ä\udcff"})

    def names(self) -> set[str]:
        return set(os.listdir())

    def test_have_their_names_when_they_are_complete(self) -> None:
        outputs = ResultFiles(Path("x.npy"), io.BytesIO(), [".index.csv"], [Path("bad.csv")])
        self.fill(outputs, Path("bad.csv"))
        complete = {"x.npy", "x.index.csv", "x.npy.meta.json", "bad.csv"}
        assert self.names() == {f"{name}.part" for name in complete}
        outputs.commit()
        assert self.names() == complete
        assert Path("x.npy").read_bytes() == b"main"
        assert Path("x.index.csv").read_bytes() == b"beside"
        assert json.loads(Path("x.npy.meta.json").read_bytes()) == {"key": "ä?"}

    def test_main_one_gets_its_name_last(self, monkeypatch: pytest.MonkeyPatch) -> None:
        renamed = []

        def record(part: Path, path: Path, replace: bool) -> None:
            renamed.append(path.name)
            give_name(part, path, replace)

        monkeypatch.setattr(files, "give_name", record)
        outputs = ResultFiles(Path("x.npy"), io.BytesIO(), [".index.csv"], [Path("bad.csv")])
        self.fill(outputs, Path("bad.csv"))
        outputs.commit()
        assert len(renamed) == 4
        assert renamed[-1] == "x.npy"

    def test_main_one_does_not_exist_if_another_could_not_be_renamed(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(part: Path, path: Path, replace: bool) -> None:
            if path.name.endswith(".meta.json"):
                raise OSError(28, "No space left on device")
            give_name(part, path, replace)

        monkeypatch.setattr(files, "give_name", fail)
        outputs = ResultFiles(Path("x.csv"), io.BytesIO())
        self.fill(outputs)
        with pytest.raises(OutputError, match=r"cannot write x\.csv\.meta\.json: No space left"):
            outputs.commit()
        outputs.abandon(keep=True)
        assert "x.csv" not in self.names()
        assert Path("x.csv.part").read_bytes() == b"main"

    @pytest.mark.parametrize("links", [True, False])
    def test_that_appear_during_the_run_are_not_replaced(
        self, monkeypatch: pytest.MonkeyPatch, links: bool
    ) -> None:
        if not links:
            monkeypatch.setattr(os, "link", refuse_links)
        outputs = ResultFiles(Path("x.csv"), io.BytesIO())
        self.fill(outputs)
        Path("x.csv").write_bytes(b"precious")
        with pytest.raises(OutputError, match=r"^x\.csv was written by another .* x\.csv\.part$"):
            outputs.commit()
        outputs.abandon(keep=True)
        assert Path("x.csv").read_bytes() == b"precious"
        assert Path("x.csv.part").read_bytes() == b"main"

    def test_that_appeared_before_they_are_opened_are_named_at_once(self) -> None:
        outputs = ResultFiles(Path("x.csv"), io.BytesIO())
        Path("x.csv").write_bytes(b"precious")
        with pytest.raises(OutputError, match=r"^x\.csv exists now, and did not before"):
            outputs.open_main()
        outputs.abandon(keep=False)
        assert self.names() == {"x.csv"}

    @pytest.mark.parametrize("links", [True, False])
    def test_get_their_names_where_there_are_no_links(
        self, monkeypatch: pytest.MonkeyPatch, links: bool
    ) -> None:
        Path("a.part").write_bytes(b"a")
        if links:
            # A run that was killed has left both names.
            os.link("a.part", "a")
        else:
            monkeypatch.setattr(os, "link", refuse_links)
        give_name(Path("a.part"), Path("a"), replace=False)
        assert self.names() == {"a"}

    def test_stdout_is_written_directly_and_left_open(self) -> None:
        stdout = io.BytesIO()
        outputs = ResultFiles(None, stdout, other_files=[Path("bad.csv"), None])
        self.fill(outputs, Path("bad.csv"))
        outputs.commit()
        assert stdout.getvalue() == b"main"
        assert self.names() == {"bad.csv"}
        assert (outputs.name, outputs.meta, outputs.sidecars) == ("stdout", None, ())

    def test_what_is_not_opened_does_not_exist(self) -> None:
        outputs = ResultFiles(Path("x.csv"), io.BytesIO(), other_files=[Path("bad.csv")])
        assert self.names() == set()
        outputs.commit()
        assert self.names() == set()

    def test_abandoned_ones_keep_the_name_of_a_part_or_go(self) -> None:
        for keep, left in ((True, {"x.csv.part", "x.csv.meta.json.part"}), (False, set())):
            outputs = ResultFiles(Path("x.csv"), io.BytesIO(), force=True)
            self.fill(outputs)
            outputs.abandon(keep)
            assert self.names() == left

    def test_abandoned_parts_hold_what_was_written(self) -> None:
        outputs = ResultFiles(Path("x.csv"), io.BytesIO())
        self.fill(outputs)
        outputs.abandon(keep=True)
        assert Path("x.csv.part").read_bytes() == b"main"

    def test_abandoning_leaves_the_file_that_was_to_be_replaced(self) -> None:
        Path("x.csv").write_bytes(b"old")
        outputs = ResultFiles(Path("x.csv"), io.BytesIO(), force=True)
        self.fill(outputs)
        outputs.abandon(keep=False)
        assert Path("x.csv").read_bytes() == b"old"
        assert self.names() == {"x.csv"}

    @pytest.mark.parametrize("part", ["", ".part"])
    @pytest.mark.parametrize(
        "name", ["x.npy", "x.index.csv", "x.npy.meta.json", "bad.csv", "run.json"]
    )
    @pytest.mark.parametrize("broken_link", [False, True])
    def test_that_exist_are_replaced_only_by_force(
        self, name: str, part: str, broken_link: bool
    ) -> None:
        taken = Path(name + part)
        if broken_link:
            taken.symlink_to("nowhere")
        else:
            taken.write_bytes(b"precious")
        others = [Path("bad.csv"), Path("run.json")]
        with pytest.raises(OutputError, match=f"^{re.escape(str(taken))} .*--force"):
            ResultFiles(Path("x.npy"), io.BytesIO(), [".index.csv"], others)
        assert broken_link or taken.read_bytes() == b"precious"
        outputs = ResultFiles(Path("x.npy"), io.BytesIO(), [".index.csv"], others, force=True)
        self.fill(outputs, *others)
        outputs.commit()
        assert Path("x.npy").read_bytes() == b"main"
        assert not any(name.endswith(".part") for name in self.names())

    def test_do_not_empty_what_another_run_has_just_finished(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The other run commits after its .part was opened and before it was locked."""
        theirs = ResultFiles(Path("x.csv"), io.BytesIO())
        theirs.open_main().write(b"theirs")
        ours = ResultFiles(Path("y.csv"), io.BytesIO())
        opened = os.open

        def open_too_early(path: Path, flags: int, mode: int) -> int:
            descriptor = opened(Path("x.csv.part"), flags, mode)
            theirs.commit()
            return descriptor

        monkeypatch.setattr(os, "open", open_too_early)
        with pytest.raises(OutputError, match="another run"):
            ours.open_main()
        assert Path("x.csv").read_bytes() == b"theirs"

    @pytest.mark.parametrize("force", [True, False])
    @pytest.mark.parametrize("name", ["gone/x.csv", "a file/x.csv"])
    def test_need_a_folder(self, name: str, force: bool) -> None:
        Path("a file").touch()
        with pytest.raises(OutputError, match=f"cannot write {name}: there is no folder"):
            ResultFiles(Path(name), io.BytesIO(), force=force)
        with pytest.raises(OutputError, match="there is no folder"):
            ResultFiles(None, io.BytesIO(), other_files=[Path(name)], force=force)

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
    def test_need_a_folder_that_may_be_written(self) -> None:
        Path("closed").mkdir(mode=0o500)
        with pytest.raises(OutputError, match="read-only"):
            ResultFiles(Path("closed/x.csv"), io.BytesIO())

    @pytest.mark.parametrize("force", [True, False])
    @pytest.mark.parametrize("name", ["folder", "folder/", "..", ".", "/"])
    def test_cannot_be_a_folder(self, name: str, force: bool) -> None:
        Path("folder").mkdir()
        with pytest.raises(OutputError, match="is a folder"):
            ResultFiles(Path(name), io.BytesIO(), force=force)
        with pytest.raises(OutputError, match="is a folder"):
            ResultFiles(None, io.BytesIO(), other_files=[Path(name)], force=force)

    @pytest.mark.parametrize(
        ("main", "others"),
        [
            ("x.csv", ["x.csv"]),
            ("x.csv", ["./x.csv"]),
            ("x.csv", ["folder/../x.csv"]),
            ("x.csv", ["x.csv.meta.json"]),
            ("x.npy", ["x.index.csv"]),
            (None, ["bad.csv", "bad.csv"]),
            ("x.csv", ["bad.csv", "bad.csv"]),
            ("folder/x.csv", ["link/x.csv"]),
        ],
    )
    @pytest.mark.parametrize("force", [True, False])
    def test_are_different_ones(self, main: str | None, others: list[str], force: bool) -> None:
        Path("folder").mkdir()
        Path("link").symlink_to("folder")
        sidecars = [".index.csv"] if main == "x.npy" else []
        with pytest.raises(OptionError, match="the same"):
            ResultFiles(
                Path(main) if main else None,
                io.BytesIO(),
                sidecars,
                [Path(name) for name in others],
                force,
            )

    def test_do_not_mix_where_one_is_named_like_the_part_of_another(self) -> None:
        try:
            outputs = ResultFiles(Path("x.csv"), io.BytesIO(), other_files=[Path("x.csv.part")])
        except OptionError:
            return
        self.fill(outputs, Path("x.csv.part"))
        outputs.commit()
        assert Path("x.csv").read_bytes() == b"main"
        assert Path("x.csv.part").read_bytes() == b"beside"

    def test_that_cannot_be_opened_are_named(self) -> None:
        outputs = ResultFiles(Path("x.csv"), io.BytesIO())
        Path("x.csv.part").mkdir()
        with pytest.raises(OutputError, match=r"cannot write x\.csv: "):
            outputs.open_main()

    def test_names_may_be_other_than_text(self) -> None:
        name = Path(os.fsdecode(b"\xff.csv"))
        outputs = ResultFiles(name, io.BytesIO())
        self.fill(outputs)
        outputs.commit()
        assert os.fsencode(name) in os.listdir(b".")

    def test_flush_reaches_stdout(self) -> None:
        flushed = []

        class Stdout(io.BytesIO):
            def flush(self) -> None:
                flushed.append(self.getvalue())

        outputs = ResultFiles(None, Stdout())
        outputs.open_main().write(b"row")
        outputs.flush()
        assert flushed == [b"row"]


def test_files_beside_stdout_are_removed_when_the_run_stops(tmp_path: Path) -> None:
    beside = tmp_path / "errors.csv"
    outputs = ResultFiles(None, io.BytesIO(), other_files=[beside])
    outputs.open(beside).write(b"path,reason\n")
    outputs.abandon(keep=True)
    assert os.listdir(tmp_path) == []


def test_files_that_are_read_are_not_replaced(tmp_path: Path) -> None:
    read = tmp_path / "x.csv"
    read.touch()
    (tmp_path / "link.csv").symlink_to(read)
    for name in ("x.csv", "link.csv"):
        with pytest.raises(OptionError, match="is read, and cannot be written"):
            refuse_to_replace(ResultFiles(tmp_path / name, None, force=True).paths, [read, None])
    refuse_to_replace(ResultFiles(tmp_path / "y.csv", None, force=True).paths, [read, None])
