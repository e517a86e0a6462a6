"""Hostile picture files through the real decoders: refused with a reason, or normalised; in bounded memory and time."""

from __future__ import annotations

import asyncio
import io
import re
import sys
from collections.abc import Iterator

import psutil
import pytest
from PIL import Image

from services.common.errors import EventFault, Parked
from services.common.settings import Settings
from services.extractor import decoders
from services.extractor.decoders import Decoders
from services.extractor.images import fetch
from tests.corpus.images.files import Case, cases, many_scans, plain, png, saved
from tests.corpus.images.server import ANSWERS, PICTURE, Answer, Shop
from tests.corpus.table import seen

CASES = list(cases())


class Bench:
    """One set of decoders for all cases, in a loop of its own: as in a worker, they see one file after the other."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.decoders = Decoders(Settings())

    def normalised(self, content: bytes) -> bytes:
        return self.loop.run_until_complete(self.decoders.normalised(content))


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.loop.run_until_complete(made.decoders.close())
    made.loop.close()


def test_there_are_enough() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 60


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_file_is_refused_with_a_reason_or_normalised(bench: Bench, case: Case) -> None:
    content = case.content()
    found, picture = "", None
    try:
        made = bench.normalised(content)
    except EventFault as fault:
        found = str(fault)
    else:
        picture = Image.open(io.BytesIO(made))
        found = "{}x{} {} {}".format(*picture.size, picture.mode, picture.format)
    refused = isinstance(case.expected, str)
    seen("images", case.name, "refused" if refused else f"{case.expected[0]}x{case.expected[1]} RGB PNG", found)
    if isinstance(case.expected, str):
        assert picture is None
        assert re.search(case.expected, found), found
        assert len(found.splitlines()) == 1
        return
    assert picture is not None, found
    assert (picture.size, picture.mode, picture.format) == (case.expected, "RGB", "PNG")
    assert len(made) < 4 * 672 * 672
    assert not set(picture.info) & {"exif", "icc_profile", "Comment", "comment"}
    if case.color:
        middle = picture.getpixel((picture.width // 2, picture.height // 2))
        assert isinstance(middle, tuple)
        assert all(abs(a - b) <= 2 for a, b in zip(middle, case.color, strict=True)), middle


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_all_of_them_together_took_one_process_and_bounded_memory(bench: Bench) -> None:
    bench.normalised(saved(plain(), "PNG"))
    (process,) = [one for one in psutil.Process().children() if "services.extractor.normalise" in one.cmdline()]
    with open(f"/proc/{process.pid}/status") as status:
        peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024
    seen("images", "all of the above", "below 400 MiB, in one process", f"{peak:.0f} MiB, in one process")
    assert peak < 400  # 50 megapixels of 4 bytes are 191 MiB.


async def refused(content: bytes, **settings: object) -> str:
    """The line that refuses a file in decoders of its own; a good file passes after it."""
    made = Decoders(Settings(**settings))  # type: ignore[arg-type]
    try:
        with pytest.raises(EventFault) as fault:
            await made.normalised(content)
        assert await made.normalised(saved(plain(), "PNG"))
        return str(fault.value)
    finally:
        await made.close()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of CPU time")
async def test_a_file_that_takes_too_long_is_refused_at_once_and_the_next_one_passes() -> None:
    line = await refused(many_scans(4000), image_decode_seconds=1)
    seen("images", "JPEG of 4,000 scans", "refused", line)
    assert line == "picture takes more than 1 s to decode"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of memory")
async def test_a_file_that_needs_too_much_memory_is_refused_and_the_next_one_passes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(decoders, "_BYTES_A_PIXEL", 3)
    monkeypatch.setattr(decoders, "_BYTES_MORE", 0)
    line = await refused(png(7000, 7000))
    seen("images", "PNG that needs more memory than allowed", "refused", line)
    assert "more memory" in line


@pytest.fixture(scope="module")
def shop() -> Iterator[Shop]:
    with Shop() as made:
        yield made


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: answer.name)
async def test_whatever_a_server_answers_is_a_picture_or_refused_or_may_come_later(shop: Shop, answer: Answer) -> None:
    settings = Settings(
        image_allowed_hosts="127.0.0.1", image_allow_private=True, image_max_bytes=1_000_000, image_timeout_seconds=1.0
    )
    try:
        found = "a picture" if await fetch(shop.url(answer), settings) == PICTURE else "something else"
    except EventFault as fault:
        found = f"refused: {fault}"
    except Parked as later:
        found = f"later: {later}"
    seen("images", f"server: {answer.name}", answer.expected, found)
    assert re.match(answer.expected, found), found
