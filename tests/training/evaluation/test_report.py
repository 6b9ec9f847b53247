"""The reports say what was found, escape what they are given, and load nothing."""

import dataclasses
import html.parser

import numpy as np

from training.evaluation.figures import Pair, pairs
from training.evaluation.markdown import to_markdown
from training.evaluation.report import to_html


def test_that_files_do_not_fit_is_reported(evaluation):
    """The tables name how many, and how small the codec's smallest files are."""
    baseline = dataclasses.replace(
        evaluation.baselines[0], fitting=1, smallest_bits_per_pixel=0.432
    )
    changed = dataclasses.replace(evaluation, baselines=(baseline,))
    assert "1 of 3; its smallest take 0.432 bpp" in to_markdown(changed)
    assert "2 of 3 files can’t be made that small" in to_html(changed, [])


class _Page(html.parser.HTMLParser):
    """Collects what a page refers to, and whether its tags are closed in order."""

    def __init__(self):
        super().__init__()
        self.links, self.open, self.tags = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [v for k, v in attrs if k in ("src", "href")]
        if tag not in {"meta", "img", "line", "polyline"}:
            self.open.append(tag)

    def handle_startendtag(self, tag, _attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_loads_nothing_from_anywhere(codec, evaluation, photos):
    """Pictures and curves are inside; tags are closed; no script."""
    page = _Page()
    text = to_html(evaluation, pairs(codec, evaluation, [photos], count=2))
    page.feed(text)
    assert page.open == []
    assert len(page.links) == 8
    assert all(link.startswith("data:image/webp;base64,") for link in page.links)
    assert "script" not in page.tags
    assert "polyline" in page.tags
    assert "url(" not in text.split("</style>")[0]


def test_names_of_files_are_escaped(evaluation):
    """A file may be called anything; the page shows it and runs nothing."""
    pixels = np.zeros((16, 16, 3), np.uint8)
    text = to_html(evaluation, [Pair("<script>alert(1)</script>", pixels, pixels, 1.0)])
    assert "<script>" not in text
    assert "&lt;script&gt;" in text
