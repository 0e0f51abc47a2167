"""The first files for each target.

python -m tests.fuzz.corpus CORPUS [PHOTOS]
"""

from __future__ import annotations

import io
import sys
import tarfile
from pathlib import Path

from PIL import Image

from tests.fuzz.mutations import encode_forms
from tests.support import images


def main(corpus: Path, photos: Path | None = None) -> None:
    _write(corpus / "pixels", _list_pictures(photos))
    blocks = {str(n): images.orientation_exif(n).tobytes() for n in range(1, 9)}
    blocks["big"] = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    blocks["xmp"] = b'\0xmp\0<rdf tiff:Orientation="6"/>'
    _write(corpus / "exif", blocks)
    _write(
        corpus / "labels",
        {
            "lines": b"cat\ndog\n\xc3\xa9l\xc3\xa9phant\n",
            "csv": b'class_id,wnid,label,synonyms\n0,n01,"cat, tabby",x\n1,n02,dog,\n',
            "mark": b"\xef\xbb\xbflabel\r\ncat\r\ndog\r\n",
        },
    )
    lists = {"lines": b"\0a.jpg\nb c.jpg\r\n\n", "null": b"\xffa.jpg\0b\nc.jpg\0"}
    _write(corpus / "lists", lists)
    _write(corpus / "archive", {"plain": _pack("w"), "pax": _pack("w", tarfile.PAX_FORMAT)})


def _list_pictures(photos: Path | None) -> dict[str, bytes]:
    found = {name: sample.data for name, sample in images.SAMPLES.items()}
    if photos is not None:
        with Image.open(min(photos.iterdir())) as photo:
            found |= encode_forms(photo)
    return found


def _pack(mode: str, form: int = tarfile.GNU_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode, format=form) as tar:  # type: ignore[call-overload]
        for name in ("module/saved_model.pb", "module/variables/" + 60 * "long" + ".index"):
            member = tarfile.TarInfo(name)
            member.size = 300
            tar.addfile(member, io.BytesIO(bytes(300)))
        link = tarfile.TarInfo("module/link")
        link.type, link.linkname = tarfile.SYMTYPE, "../../outside"
        tar.addfile(link)
    return buffer.getvalue()


def _write(folder: Path, files: dict[str, bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name.replace(" ", "-")).write_bytes(data)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
