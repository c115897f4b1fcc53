"""A program: the app serves one session that uploads a picture, the session's tab is closed, and what is left of it is counted.

    python -m support.one_session SECONDS [FOLDER]

It runs the app with Streamlit's own runtime, a browser that only collects messages, and ``server.disconnectedSessionTTL`` set to
SECONDS. FOLDER is the cache's; without it results stay in memory. It prints one line of JSON for each moment: "open" while the
session shows the picture, "closed" after SECONDS, "reconnected" where the tab came back before. A line has the number of objects of
each kind that still hold something of the picture, and the numbers of entries in the cache.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import gc
import json
import os
import re
import sys
from collections import Counter
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st
from PIL import Image
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.Common_pb2 import FileUploaderState, UploadedFileInfo
from streamlit.runtime import Runtime, RuntimeConfig
from streamlit.runtime.memory_media_file_storage import MemoryMediaFileStorage
from streamlit.runtime.memory_session_storage import MemorySessionStorage
from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager
from streamlit.runtime.uploaded_file_manager import UploadedFileRec
from torch import Tensor

ROOT = Path(__file__).parents[2]
QUERY = "network=scenes_vgg&methods=Gradient&methods=Gradient+%C3%97+Input&methods=DMBP"
SIDE, CELLS = 200, 8  # of the picture, and of the patches that it is made of
ALIKE = 0.9  # what correlates with the picture so well shows it
URI = re.compile(r"base64,([A-Za-z0-9+/=]{200,})")


class Browser:
    """Collects what a session sends: the ids of widgets by their key, and how many runs have ended."""

    client_context = None

    def __init__(self) -> None:
        self.uploaders: list[str] = []
        self.runs = 0

    def write_forward_msg(self, message: Any) -> None:
        kind = message.WhichOneof("type")
        if kind == "delta" and message.delta.new_element.WhichOneof("type") == "file_uploader":
            self.uploaders.append(message.delta.new_element.file_uploader.id)
        if kind == "delta" and message.delta.new_element.WhichOneof("type") == "exception":
            raise AssertionError(message.delta.new_element.exception.message)
        self.runs += kind == "script_finished"


def picture() -> Image.Image:
    """A picture of coloured patches that nothing else in the process resembles."""
    patches = np.random.default_rng(4711).integers(0, 255, (CELLS, CELLS, 3), np.uint8)
    return Image.fromarray(patches).resize((SIDE, SIDE), Image.Resampling.NEAREST)


class Search:
    """Counts the objects of this process that show the picture, or hold its file."""

    def __init__(self, data: bytes) -> None:
        self._slice = data[len(data) // 2:][:40]
        self._wanted = _small(np.asarray(picture()))

    def count(self) -> dict[str, int]:
        """How many objects of which type hold something of the picture. Strings and arrays are reached through what refers to them."""
        gc.collect()
        counted, seen = Counter[str](), {id(self._slice), id(self._wanted)}
        for holder in gc.get_objects():
            for each in (holder, *gc.get_referents(holder)):
                if id(each) in seen:
                    continue
                if isinstance(each, (bytes, bytearray, str, np.ndarray, Image.Image, Tensor)):
                    seen.add(id(each))
                    if self._shows(each):
                        counted[f"{type(each).__name__} in {type(holder).__name__}"] += 1
        return dict(counted)

    def _shows(self, each: Any) -> bool:
        if isinstance(each, (bytes, bytearray)):  # Streamlit keeps cached strings pickled
            return self._slice in each or b"base64," in each and any(map(self._shows_file, URI.findall(each.decode("latin-1"))))
        if isinstance(each, str):
            return "base64," in each and any(map(self._shows_file, URI.findall(each)))
        if isinstance(each, Image.Image):
            return min(each.size) >= CELLS and self._is_alike(np.asarray(each.convert("RGB")))
        array = each.detach().cpu().numpy() if isinstance(each, Tensor) else each
        return array.dtype.kind in "fui" and array.size < 10**7 and any(self._is_alike(part) for part in _as_pictures(array))

    def _shows_file(self, text: str) -> bool:
        try:
            with Image.open(BytesIO(base64.b64decode(text))) as image:
                return self._is_alike(np.asarray(image.convert("RGB")))
        except (OSError, binascii.Error):
            return False

    def _is_alike(self, pixels: np.ndarray) -> bool:
        small = _small(pixels)
        return small.std() > 0 and abs(float(np.corrcoef(small, self._wanted)[0, 1])) > ALIKE


def _as_pictures(array: np.ndarray) -> list[np.ndarray]:
    """An array as pictures (H, W, 3), if it can be one or several."""
    if array.ndim < 3 or min(array.shape[-2:]) < CELLS and min(array.shape[-3:-1]) < CELLS:
        return []
    if array.shape[-1] == 3:
        return list(array.reshape(-1, *array.shape[-3:])[:4])
    if array.shape[-3] == 3:
        return [part.transpose(1, 2, 0) for part in array.reshape(-1, *array.shape[-3:])[:4]]
    return []


def _small(pixels: np.ndarray) -> np.ndarray:
    """The colours in the middle of each patch, in a row."""
    rows, columns = (np.floor((np.arange(CELLS) + 0.5) * side / CELLS).astype(int) for side in pixels.shape[:2])
    return np.nan_to_num(pixels[np.ix_(rows, columns)].astype(np.float64)).ravel()


class Server:
    """Streamlit's runtime without its web server."""

    def __init__(self, seconds: float) -> None:
        st.config.set_option("server.disconnectedSessionTTL", seconds)
        self.uploads = MemoryUploadedFileManager("/upload")
        self.runtime = Runtime(RuntimeConfig(
            script_path=str(ROOT / "app.py"), media_file_storage=MemoryMediaFileStorage("/media"), uploaded_file_manager=self.uploads,
            session_storage=MemorySessionStorage(ttl_seconds=seconds)))

    async def run(self, session: str, browser: Browser, upload: bytes = b"") -> None:
        """Let the session run the app, with a new upload where one is given, until its run has ended."""
        runs, message = browser.runs, BackMsg()
        message.rerun_script.query_string = QUERY
        if upload:
            self.uploads.add_file(session, UploadedFileRec("file", "patches.png", "image/png", upload))
            state = message.rerun_script.widget_states.widgets.add()
            state.id = browser.uploaders[0]
            state.file_uploader_state_value.CopyFrom(FileUploaderState(
                uploaded_file_info=[UploadedFileInfo(file_id="file", name="patches.png", size=len(upload))]))
        self.runtime.handle_backmsg(session, message)
        while browser.runs < runs + (2 if upload else 1):  # after an upload the app runs again by itself
            await asyncio.sleep(0.05)


def say(moment: str, search: Search) -> None:
    from components.state.engine import engine

    cache = engine().cache
    print(json.dumps({"moment": moment, "holders": search.count(), "entries": cache.contents().entries,
                      "disk": cache.contents().disk_bytes}), flush=True)


async def main(seconds: float, come_back: bool) -> None:
    server, browser, buffer = Server(seconds), Browser(), BytesIO()
    picture().save(buffer, "PNG")
    search = Search(buffer.getvalue())
    await server.runtime.start()
    session = server.runtime.connect_session(browser, {})
    await server.run(session, browser)
    say("before", search)
    await server.run(session, browser, buffer.getvalue())
    say("open", search)
    server.runtime.disconnect_session(session)
    if come_back:
        await asyncio.sleep(seconds / 2)
        assert server.runtime.connect_session(browser, {}, existing_session_id=session) == session
        await server.run(session, browser)
        await asyncio.sleep(seconds)
        say("reconnected", search)
        server.runtime.disconnect_session(session)
    await asyncio.sleep(seconds)
    say("closed", search)
    server.runtime.stop()


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    os.environ["EXPLORER_CACHE"] = sys.argv[2] if len(sys.argv) > 2 else "off"
    asyncio.run(main(float(sys.argv[1]), come_back="--come-back" in sys.argv))
