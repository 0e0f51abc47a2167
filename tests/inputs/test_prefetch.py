"""Objects are read ahead: many at once, in their order, and no more than memory has room for."""

from __future__ import annotations

import itertools
import threading
import time
from typing import TYPE_CHECKING

import pytest

from mnv1cli.errors import ImageError
from mnv1cli.images import loader
from mnv1cli.inputs import prefetch
from mnv1cli.limits import TooLargeError
from mnv1cli.storage.stores import RemoteImage
from mnv1cli.types import ImageRef, PixelSpec
from tests.conftest import ROOT
from tests.support import webserver
from tests.support.webserver import Answer, WebServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

COFFEE = ROOT / "examples" / "photos" / "coffee.jpg"
LIMIT = 1 << 20


@pytest.fixture
def web() -> Iterator[WebServer]:
    with webserver.serving() as server:
        yield server


def refs(web: WebServer, count: int, size: int | None = None) -> Iterator[ImageRef]:
    for i in range(count):
        web.answers.setdefault(f"/{i}", Answer(b"%d" % i))
        uri = f"{web.url}/{i}".encode()
        yield ImageRef(i, uri, member=RemoteImage(uri, size))


def content(ref: ImageRef, limit: int = LIMIT) -> bytes:
    assert ref.member is not None
    return ref.member(limit)


def test_local_images_pass_as_they_are() -> None:
    # Of an earlier test.
    await_the_end_of_threads()
    local = [ImageRef(0, b"a"), ImageRef(1, b"b.zip!/c", member=lambda _: b"c")]
    assert list(prefetch.prefetch_remote(local, LIMIT)) == local
    assert not own_threads()


def test_many_are_under_way_at_once_and_come_in_order(web: WebServer) -> None:
    def many() -> bool:
        return web.most_at_once > prefetch.MAX_REQUESTS // 2

    web.answers = {f"/{i}": Answer(b"%d" % i, ready=many) for i in range(100)}
    found = [content(ref) for ref in prefetch.prefetch_remote(refs(web, 100), LIMIT)]
    assert found == [b"%d" % i for i in range(100)]
    assert many()


def test_local_images_keep_their_place(web: WebServer) -> None:
    local = [ImageRef(i, b"local") for i in range(3)]
    remote = list(refs(web, 3))
    mixed = [*itertools.chain.from_iterable(zip(local, remote, strict=True))]
    found = list(prefetch.prefetch_remote(mixed, LIMIT))
    assert [ref.path for ref in found] == [ref.path for ref in mixed]
    assert found[::2] == local
    assert [content(ref) for ref in found[1::2]] == [b"0", b"1", b"2"]


def test_faults_stay_with_their_images(web: WebServer) -> None:
    web.answers = {"/1": Answer(status=404), "/2": Answer(status=403)}
    first, missing, denied, last = prefetch.prefetch_remote(refs(web, 4), LIMIT)
    assert (content(first), content(last)) == (b"0", b"3")
    for ref, reason in ((missing, "no such file"), (denied, "cannot be read: access denied")):
        with pytest.raises(ImageError, match=reason):
            content(ref)


def test_what_the_refs_raise_comes_in_its_turn(web: WebServer) -> None:
    def failing() -> Iterator[ImageRef]:
        yield from refs(web, 2)
        raise ZeroDivisionError

    found = prefetch.prefetch_remote(failing(), LIMIT)
    assert [content(next(found)), content(next(found))] == [b"0", b"1"]
    with pytest.raises(ZeroDivisionError):
        next(found)


def test_no_more_is_read_than_there_is_room_for(
    web: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefetch, "MAX_BYTES_AHEAD", 1000)
    web.answers = {f"/{i}": Answer(bytes(300)) for i in range(20)}
    found = prefetch.prefetch_remote(refs(web, 20, size=300), LIMIT)
    taken = [next(found) for _ in range(20)]
    await_condition(lambda: sum(web.asked.values()) >= 3)
    time.sleep(0.1)
    assert sum(web.asked.values()) == 3
    # Whoever comes for another one first does not wait for room.
    assert content(taken[19]) == bytes(300)
    assert [content(ref) for ref in taken[:19]] == [bytes(300)] * 19
    assert sum(web.asked.values()) == 20


def test_what_is_larger_than_was_known_is_not_held(
    web: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefetch, "_UNKNOWN", 100)
    web.answers["/0"] = Answer(bytes(200))
    (ref,) = prefetch.prefetch_remote(refs(web, 1), LIMIT)
    assert content(ref) == bytes(200)
    (ref,) = prefetch.prefetch_remote(refs(web, 1), 150)
    with pytest.raises(TooLargeError, match="200 bytes"):
        content(ref, 150)


def test_closing_early_leaves_no_thread(web: WebServer) -> None:
    closed = threading.Event()
    web.answers = {f"/{i}": Answer(b"x", ready=closed.is_set) for i in range(500)}
    found = prefetch.prefetch_remote(refs(web, 500), LIMIT)
    ref = next(found)
    assert own_threads()
    found.close()  # type: ignore[attr-defined]
    closed.set()
    # What was handed out can be read still.
    assert content(ref) == b"x"
    await_the_end_of_threads()
    assert sum(web.asked.values()) < 200


def test_batches_that_are_left_leave_no_thread(web: WebServer) -> None:
    closed = threading.Event()
    web.answers = {f"/{i}": Answer(COFFEE.read_bytes()) for i in range(100)}
    web.answers |= {f"/{i}": Answer(b"x", ready=closed.is_set) for i in range(100, 300)}
    batches = loader.load_batches(refs(web, 300), PixelSpec(128), 4, 2)
    assert next(batches).reasons[0] == ""
    assert own_threads()
    batches.close()  # type: ignore[attr-defined]
    closed.set()
    await_the_end_of_threads()
    assert sum(web.asked.values()) < 200


def own_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("mnv1-")]


def await_the_end_of_threads() -> None:
    await_condition(lambda: not own_threads())


def await_condition(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 100
    while not condition():
        assert time.monotonic() < end, own_threads()
        time.sleep(0.01)
