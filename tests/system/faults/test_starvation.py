"""Many large images at once: they don't keep small ones from the threads that decode."""

from __future__ import annotations

import io
import threading
import time
from statistics import median

import pytest
from PIL import Image

_SIDE = 1500


def large():
    """2 megapixels in a few kilobytes: much to decode, and next to nothing to send."""
    file = io.BytesIO()
    Image.new("RGB", (_SIDE, _SIDE), (90, 120, 200)).save(file, "PNG")
    return file.getvalue()


@pytest.mark.timeout(600)
def test_large_images_do_not_starve_small_ones(serve, examples):
    """With 64 clients that send nothing but large ones, small ones don't wait for theirs."""
    statuses = []
    large_waits = []
    stop = threading.Event()
    file = large()
    with serve(max_pixels=_SIDE**2, request_timeout_s=120) as server:

        def flood():
            connection = server.connection()
            while not stop.is_set():
                started = time.monotonic()
                connection.request("POST", "/v1/encode", file, {"content-type": "image/png"})
                answer = connection.getresponse()
                answer.read()
                statuses.append(answer.status)
                if answer.status == 200:
                    large_waits.append(time.monotonic() - started)
                elif answer.status == 429:
                    time.sleep(0.02)
            connection.close()

        threads = [threading.Thread(target=flood) for _ in range(64)]
        for thread in threads:
            thread.start()
        try:
            while not large_waits:  # then the others wait
                time.sleep(0.02)
            waits = []
            for small, codes in examples[:8]:
                started = time.monotonic()
                assert server.codes(small) == codes
                waits.append(time.monotonic() - started)
                assert server.get("/readyz").status_code == 200
        finally:
            stop.set()
            for thread in threads:
                thread.join()
    assert set(statuses) == {200, 429}
    # Large ones wait for one another; a small one for the runs and decodes of one large one each
    # that are going on. How long that is depends on the machine, and half of them may be unlucky.
    assert median(waits) < max(large_waits) / 8
