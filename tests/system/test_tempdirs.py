"""What lies on disk only as long as the process lives."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mnv1cli.system import tempdirs

ENDINGS = {
    "as ever": "pass",
    "by an error": "raise SystemExit(3)",
    "at once": "tempdirs.remove_scratch(); import os; os._exit(0)",
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_goes_with_the_process(ending: str) -> None:
    code = (
        "from mnv1cli.system import tempdirs\n"
        "place = tempdirs.make_scratch_dir()\n"
        "(place / 'file').touch()\n"
        "assert tempdirs.make_scratch_dir() == place\n"
        f"print(place, flush=True)\n{ENDINGS[ending]}\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    place = Path(run.stdout.strip())
    assert place.is_absolute()
    assert not place.exists()


def test_module_in_it_is_not_kept(tmp_path: Path) -> None:
    assert tempdirs.is_permanent(tmp_path / "module")
    assert not tempdirs.is_permanent(tempdirs.make_scratch_dir() / "module")


@pytest.mark.parametrize("name", ["module", "a b", "sha-1_2.3"])
def test_plain_path_stays_what_it_is(tmp_path: Path, name: str) -> None:
    assert tempdirs.make_plain_path(Path("/somewhere") / name) == f"/somewhere/{name}"


@pytest.mark.parametrize(
    "name", ["a*", "what?", "[x]", "back\\slash", "Fotos für später", "\udcff"]
)
def test_path_that_would_mislead_tensorflow_gets_a_link(tmp_path: Path, name: str) -> None:
    place = tmp_path / name
    place.mkdir()
    (place / "saved_model.pb").write_bytes(b"graph")
    plain = tempdirs.make_plain_path(place)
    assert plain.isascii()
    assert not set(plain) & set("*?[]\\")
    assert (Path(plain) / "saved_model.pb").read_bytes() == b"graph"
    assert tempdirs.make_plain_path(place) == plain
    other = tmp_path / f"{name} 2"
    other.mkdir()
    assert tempdirs.make_plain_path(other) != plain
