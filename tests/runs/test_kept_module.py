"""A run that goes on with a result uses its module where the default would be another one."""

from __future__ import annotations

import csv
import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from mnv1cli.analysis import synthetic_photos
from mnv1cli.api import Classifier
from mnv1cli.errors import ResultError
from mnv1cli.inference import models
from mnv1cli.modules import cache, catalog, inspection
from mnv1cli.modules.files import CHECKSUMS, compute_fingerprint
from mnv1cli.modules.transfer import connections
from mnv1cli.runs import journal
from mnv1cli.training.files import find_begun_module
from tests.runs.test_resume import Cut, cut_at
from tests.support import hub as hubs
from tests.support.hub import QUERY, Hub
from tests.support.shell import mnv1

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mnv1cli.modules.hub_module import HubModule

HANDLE = catalog.DEFAULT_HANDLE
GOES_ON = "going on with module bundled, which {} was made with (--module chooses another)\n"


@pytest.fixture(autouse=True)
def folder(
    tmp_path: Path,
    warm_cache: Path,
    compiled_cache: Path,
    other_module: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A working directory with five photos, and a cache with the bundled module alone.

    Both modules are compiled.
    """
    inside = f"compiled/{compute_fingerprint(other_module)}"
    shutil.copytree(compiled_cache / inside, warm_cache / inside)
    monkeypatch.setenv("MNV1_OFFLINE", "0")
    for scheme in ("http", "https"):
        monkeypatch.setenv(f"{scheme}_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(connections, "PAUSE_SECONDS", 0.01)
    (tmp_path / "photos").mkdir()
    synthetic_photos.write_pictures(tmp_path / "photos", 5, 40, 30)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A mirror without the module of the hub, at first."""
    with hubs.serve() as server:
        monkeypatch.setenv("MNV1_MIRRORS", server.url)
        yield server


@pytest.fixture(scope="module")
def other_module(bundled_module: HubModule, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A module with the weights of the bundled one, and another fingerprint."""
    path = tmp_path_factory.mktemp("module") / "tuned"
    shutil.copytree(bundled_module.path, path)
    (path / "assets").mkdir(exist_ok=True)
    (path / "assets" / "note.txt").write_text("another module")
    (path / CHECKSUMS).unlink()
    module = inspection.open_module(str(path))
    models.open_model(module, [module.logits()], 1)
    return path


def add_photos(folder: Path) -> None:
    for path in sorted((folder / "photos").iterdir())[:2]:
        shutil.copy(path, path.with_name(f"new-{path.name}"))


def read_module(file: Path) -> Any:
    return json.loads(file.with_name(f"{file.name}.meta.json").read_text())["module"]


def count_images(file: Path) -> int:
    with file.open() as stream:
        return len({row["path"] for row in csv.DictReader(stream)})


def serve(hub: Hub, module: Path) -> None:
    hub.answers[QUERY] = hubs.sends(hubs.pack(module))
    hub.asked.clear()


def test_job_begun_with_the_fallback_goes_on_when_the_hub_is_in_reach(
    folder: Path, hub: Hub, other_module: Path
) -> None:
    line = ("classify", "photos", "-o", "l.csv", "--skip-existing", "l.csv")
    begun = mnv1(*line)
    assert begun.exit_code == 0
    assert "--image-size 224" in begun.stderr
    add_photos(folder)
    serve(hub, other_module)
    again = mnv1(*line)
    assert again.exit_code == 0
    assert again.stderr.startswith("mnv1: " + GOES_ON.format("l.csv"))
    assert "5 were there already, in l.csv" in again.stderr
    assert "warning" not in again.stderr
    # Nobody was asked for a module that is not used.
    assert hub.asked == []
    assert count_images(folder / "l.csv") == 7
    assert read_module(folder / "l.csv")["handle"] == "bundled"
    assert mnv1(*line, "-q").stderr == ""

    before = (folder / "l.csv").read_bytes()
    refused = mnv1(*line, "--module", "hub")
    assert refused.exit_code == 1
    assert refused.stderr.endswith(
        f"mnv1: error: l.csv was made with module bundled, not {HANDLE}; give --module bundled, "
        "or write another result\n"
    )
    fingerprint = read_module(folder / "l.csv")["fingerprint"]
    assert fingerprint not in refused.stderr
    assert fingerprint in mnv1(*line, "--module", "hub", "-v").stderr
    assert (folder / "l.csv").read_bytes() == before
    # Another result has the default.
    assert mnv1("classify", "photos", "-o", "h.csv", "-q").exit_code == 0
    assert read_module(folder / "h.csv")["handle"] == HANDLE


@pytest.mark.parametrize(
    ("begin", "more"),
    [
        (("-o", "l.csv"), ("-o", "l.csv", "--append")),
        (("-o", "l.csv"), ("--skip-existing", "l.csv", "--append")),
        (("-o", "l.csv"), ("-o", "new.csv", "--skip-existing", "l.csv")),
        (("-o", "l.csv"), ("-o", "./l.csv", "--skip-existing", "l.csv")),
        (("-o", "l.parquet"), ("-o", "l.parquet", "--skip-existing", "l.parquet")),
        (("-o", "labels/"), ("-o", "labels/")),
        (("-o", "labels/"), ("-o", "labels")),
        (("-o", "labels/"), ("-o", "new.csv", "--skip-existing", "labels/")),
        (("-o", "l.csv"), ("-o", "labels/", "--skip-existing", "l.csv")),
    ],
    ids=" ".join,
)
def test_every_way_to_go_on_keeps_the_module(
    folder: Path, hub: Hub, other_module: Path, begin: tuple[str, ...], more: tuple[str, ...]
) -> None:
    assert mnv1("classify", "photos", *begin, "-q").exit_code == 0
    add_photos(folder)
    serve(hub, other_module)
    result = mnv1("classify", "photos", *more)
    assert result.exit_code == 0
    named = "labels" if more[1] == "labels" else begin[1]
    assert GOES_ON.format(named) in result.stderr
    assert hub.asked == []


def test_module_that_is_named_decides(
    folder: Path, hub: Hub, other_module: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert mnv1("classify", "photos", "-o", "l.csv", "-q").exit_code == 0
    monkeypatch.setenv("MNV1_MODULE", str(other_module))
    refused = mnv1("classify", "photos", "-o", "l.csv", "--append")
    assert refused.exit_code == 1
    assert f"l.csv was made with module bundled, not {other_module}; " in refused.stderr
    monkeypatch.setenv("MNV1_MODULE", "")
    assert GOES_ON.format("l.csv") in mnv1("classify", "photos", "-o", "l.csv", "--append").stderr


def test_results_of_two_modules_are_refused_by_handle(
    folder: Path, hub: Hub, other_module: Path
) -> None:
    assert mnv1("classify", "photos", "-o", "l.csv", "-q").exit_code == 0
    assert mnv1("classify", "photos", "-o", "h.csv", "--module", other_module).exit_code == 0
    for more in (("-o", "h.csv", "--append"), ("-o", "h.csv", "--append", "--module", "bundled")):
        refused = mnv1("classify", "photos", "--skip-existing", "l.csv", *more)
        assert refused.exit_code == 1
        assert refused.stderr == (
            f"mnv1: error: l.csv was made with module bundled, h.csv with {other_module}; "
            "skip a result of the same settings\n"
        )
    assert mnv1("classify", "photos", "-o", "labels/", "-q").exit_code == 0
    refused = mnv1("classify", "photos", "-o", "labels/", "--skip-existing", "h.csv")
    assert f"h.csv was made with module {other_module}, labels/ with bundled" in refused.stderr


def test_image_size_is_kept_too(folder: Path, hub: Hub, other_module: Path) -> None:
    line = ("classify", "photos", "-o", "l.csv", "--skip-existing", "l.csv")
    assert mnv1(*line, "--image-size", 160, "-q").exit_code == 0
    add_photos(folder)
    serve(hub, other_module)
    for size in ((), ("--image-size", 160)):
        assert mnv1(*line, *size).exit_code == 0
    assert read_module(folder / "l.csv")["image_size"] == 160
    for more in (("--image-size", 128), ("--module", "bundled")):
        refused = mnv1(*line, *more)
        assert refused.exit_code == 1
        assert "l.csv was made with --image-size 160, not 128; " in refused.stderr


def test_module_that_is_gone_is_named_with_what_to_do(
    folder: Path, hub: Hub, other_module: Path
) -> None:
    serve(hub, other_module)
    line = ("classify", "photos", "-o", "h.csv", "--skip-existing", "h.csv")
    assert mnv1(*line).exit_code == 0
    again = mnv1(*line)
    assert "going on" not in again.stderr
    assert mnv1("module", "remove", "hub").exit_code == 0
    hub.answers.clear()
    start = f"mnv1: error: h.csv was made with module {HANDLE}, which is not in the cache, and "
    end = "; put it there, or name its directory or .tar.gz with --module\n"
    for more, reason in (((), "no source serves it"), (("--offline",), "mnv1 is offline")):
        result = mnv1(*line, *more)
        assert result.exit_code == 1
        assert result.stderr == start + reason + end
    # The same files under another name are the same module.
    assert mnv1(*line, "--module", other_module).exit_code == 0


def test_module_in_a_folder_is_looked_for_beside_the_result(
    folder: Path, other_module: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(other_module, folder / "tuned")
    photos = folder / "photos"
    assert mnv1("classify", photos, "-o", "l.csv", "--module", "tuned", "-q").exit_code == 0
    add_photos(folder)
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    line = ("classify", photos, "-o", folder / "l.csv", "--append", "--skip-existing",
            folder / "l.csv")  # fmt: skip
    result = mnv1(*line)
    assert result.exit_code == 0
    assert f"going on with module {folder / 'tuned'}, which" in result.stderr
    # Another version with the name of the module is not taken for it.
    shutil.copytree(other_module, elsewhere / "tuned")
    (elsewhere / "tuned" / "assets" / "note.txt").write_text("a later version")
    assert mnv1(*line).exit_code == 0
    shutil.rmtree(folder / "tuned")
    result = mnv1(*line)
    assert result.exit_code == 1
    gone = f"was made with module {folder / 'tuned'}, which does not exist any more; name it"
    assert gone in result.stderr
    # That of this name in the working directory is what the metadata may mean.
    metadata = folder / "l.csv.meta.json"
    metadata.write_text(metadata.read_text().replace(str(folder / "tuned"), "tuned"))
    assert "was made with another version of module tuned; " in mnv1(*line).stderr


def test_version_in_the_cache_under_another_name_is_used(
    folder: Path, other_module: Path, own_cache: Path
) -> None:
    """The program that builds the bundled module may change, and with it the fingerprint."""
    former = "bundled:0:0123"
    shutil.copytree(other_module, cache.cache_directory(former))
    text = f"Module: {former}\n"
    cache.cache_directory(former).with_suffix(".descriptor.txt").write_text(text)
    assert mnv1("classify", "photos", "-o", "l.csv", "--module", former, "-q").exit_code == 0
    file = folder / "l.csv.meta.json"
    file.write_text(file.read_text().replace(former, "bundled"))
    add_photos(folder)
    result = mnv1("classify", "photos", "-o", "l.csv", "--skip-existing", "l.csv")
    assert result.exit_code == 0
    assert f"going on with module {former}" in result.stderr
    assert count_images(folder / "l.csv") == 7
    shutil.rmtree(cache.cache_directory(former))
    refused = mnv1("classify", "photos", "-o", "l.csv", "--append")
    assert f"made with module {former}, which does not exist any more; " in refused.stderr
    file.write_text(file.read_text().replace(former, "bundled"))
    refused = mnv1("classify", "photos", "-o", "l.csv", "--append")
    assert "l.csv was made with another version of module bundled; " in refused.stderr


@pytest.mark.parametrize("with_handle", [True, False], ids=["journal", "earlier journal"])
def test_run_that_was_cut_goes_on_with_its_module(
    folder: Path,
    hub: Hub,
    other_module: Path,
    monkeypatch: pytest.MonkeyPatch,
    with_handle: bool,
) -> None:
    line = ("classify", "photos", "--batch-size", 1)
    assert mnv1(*line, "-o", "whole.csv", "-q").exit_code == 0
    with monkeypatch.context() as patch:
        cut_at(patch, 2)
        with pytest.raises(Cut):
            mnv1(*line, "-o", "l.csv")
    file = folder / "l.csv.journal"
    header, *states = file.read_text().splitlines(keepends=True)
    begun = json.loads(header)
    assert begun["settings"]["handle"] == "bundled"
    if not with_handle:
        del begun["settings"]["handle"]
        file.write_text("".join([json.dumps(begun) + "\n", *states]))
    serve(hub, other_module)
    refused = mnv1(*line, "-o", "l.csv", "--resume", "--module", other_module)
    assert refused.exit_code == 1
    told = f"module bundled, not {other_module}" if with_handle else "another module than"
    assert f"l.csv was begun with {told}" in refused.stderr
    result = mnv1(*line, "-o", "l.csv", "--resume")
    assert result.exit_code == 0
    assert "going on with module bundled" in result.stderr
    assert hub.asked == []
    assert (folder / "l.csv").read_bytes() == (folder / "whole.csv").read_bytes()
    complete = mnv1(*line, "-o", "l.csv", "--resume")
    assert "l.csv is complete: nothing is left to do" in complete.stderr
    assert hub.asked == []


def test_dataset_is_filled_from_python_with_its_module(
    folder: Path, hub: Hub, other_module: Path
) -> None:
    assert Classifier().fill("photos", "labels").done == 5
    add_photos(folder)
    serve(hub, other_module)
    assert mnv1("module", "fetch").exit_code == 0
    classifier = Classifier()
    assert classifier.predictor.module.handle == HANDLE
    assert classifier.fill("photos", "labels").done == 2
    with pytest.raises(ResultError, match=f"made with module bundled, not {other_module}"):
        Classifier(str(other_module)).fill("photos", "labels")


def test_environment_names_the_module_for_python(
    folder: Path, other_module: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MNV1_MODULE", str(other_module))
    assert Classifier().predictor.module.handle == str(other_module)
    assert Classifier("bundled").predictor.module.handle == "bundled"
    monkeypatch.setenv("MNV1_MODULE", "")
    monkeypatch.setenv("MNV1_OFFLINE", "1")
    assert Classifier().predictor.module.handle == "bundled"


def test_training_that_was_stopped_names_its_module(folder: Path) -> None:
    settings = {"module": "0" * 64, "handle": "bundled", "--image-size": 224}
    part = folder / "tuned.part"
    assert find_begun_module(folder / "tuned") is None
    part.mkdir()
    (part / "settings.json").write_text(json.dumps(settings))
    begun = find_begun_module(folder / "tuned")
    assert begun == journal.find_module(settings, str(part), part)
    assert begun is not None
    assert (begun.handle, begun.image_size) == ("bundled", 224)
    (part / "settings.json").write_text("[")
    assert find_begun_module(folder / "tuned") is None
