"""Curves and differences of rate, for a model of several stages and decoders."""

import dataclasses
import html.parser
import json

import numpy as np
import pytest
import torch

from training.data.dataset import find_images
from training.evaluation import rate_distortion
from training.evaluation.chart import chart
from training.evaluation.curves import rate_differences
from training.evaluation.markdown import to_markdown
from training.evaluation.quality import Measures, Quality
from training.evaluation.rate_distortion import evaluate
from training.evaluation.recognisability import Judgement, Recognised
from training.evaluation.report import to_html
from training.evaluation.results import CurvePoint
from training.evaluation.variants import Variant
from training.onnx_export.codec import CheckpointCodec
from training.tokenizer.model import Tokenizer


def _points(codec, shift=1.0, steps=(1, 2, 3, 4)):
    """PSNR, MS-SSIM and LPIPS that all get better with every doubling of the rate."""
    return [
        CurvePoint(
            codec,
            step,
            shift * 0.05 * 2**step,
            Quality(20 + 2.0 * step, 0.5, 1 - 0.2 / 2**step, 0.6 - 0.1 * step),
        )
        for step in steps
    ]


def test_half_the_rate_is_minus_fifty_percent_by_every_measure():
    """Whether more or less of a measure is better, fewer bits are a negative number."""
    found = rate_differences([*_points("default", 0.5), *_points("AVIF")])
    assert [(d.decoder, d.codec, d.measure, d.points) for d in found] == [
        ("default", "AVIF", name, 4) for name in ("psnr", "ms_ssim", "lpips")
    ]
    assert [d.percent for d in found] == pytest.approx([-50] * 3)


def test_a_model_of_one_rate_is_compared_at_its_quality():
    """One point has no Bjøntegaard delta: the difference at its quality is given, and said so."""
    found = rate_differences([*_points("default", 2.0, steps=(2,)), *_points("WebP")])
    assert [d.points for d in found] == [1, 1, 1]
    assert [d.percent for d in found] == pytest.approx([100] * 3)


def test_a_measure_that_is_absent_has_no_difference():
    """Without LPIPS there is no row for it, and no zero."""
    curve = [
        dataclasses.replace(p, quality=dataclasses.replace(p.quality, lpips=None))
        for p in (*_points("default"), *_points("JPEG"))
    ]
    assert {d.measure for d in rate_differences(curve)} == {"psnr", "ms_ssim"}


def test_the_chart_has_a_panel_for_each_measure_that_is_there():
    """Three panels with LPIPS, two without; every series is a line in each."""
    curve = [*_points("default", steps=(1, 2)), *_points("texture", steps=(1,)), *_points("AVIF")]
    svg = chart(curve, ["default", "texture"], "my<model>")
    html.parser.HTMLParser().feed(svg)
    assert svg.count("<polyline") == 9
    assert "LPIPS, less is better" in svg
    assert "my&lt;model&gt;" in svg
    assert ">texture<" in svg
    without = [
        dataclasses.replace(p, quality=dataclasses.replace(p.quality, lpips=None)) for p in curve
    ]
    assert chart(without, ["default", "texture"], "m").count("<polyline") == 6


class _Coarse(CheckpointCodec):
    """Decodes in grey where it is told to."""

    def decode_grey(self, codes, height, width):
        image = self.decode_image(codes, height, width)
        return np.repeat(image.mean(axis=2, keepdims=True), 3, axis=2).astype(np.uint8)


@pytest.fixture(scope="module")
def evaluation(tiny, photos):
    """Two stages, made of one by pretending, and a second decoder."""
    torch.manual_seed(0)
    codec = _Coarse(Tokenizer(tiny))

    def size(factor):
        return lambda codes: factor * codes.size

    variants = [
        Variant("2 stages", "default", 2, codec.decode_image, size(16)),
        Variant("1 stage", "default", 1, codec.decode_grey, size(8)),
        Variant("texture", "texture", 2, codec.decode_grey, size(16)),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rate_distortion, "variants_of", lambda _codec: variants)
        return evaluate(codec, [photos], baseline_images=2, curve_images=2, measures=Measures())


def test_every_variant_is_measured(evaluation, photos):
    """The first one's figures are the evaluation's own; each has its own rate and quality."""
    main, one, texture = evaluation.variants
    assert (main.quality, main.bits_per_pixel) == (evaluation.quality, evaluation.bits_per_pixel)
    assert one.bits_per_pixel == pytest.approx(main.bits_per_pixel / 2)
    assert one.synthetic == texture.synthetic != main.synthetic
    assert len(set(one.synthetic.pure["red"])) == 1  # grey
    assert one.quality == texture.quality != main.quality
    assert evaluation.images == len(find_images([photos]).paths)


def test_codecs_are_tried_at_the_bytes_of_every_number_of_stages(evaluation):
    """Three codecs at two sizes; the model's own figure beside each is the default decoder's."""
    assert [(p.codec, p.stages) for p in evaluation.baselines] == [
        (codec, stages) for codec in ("JPEG", "WebP", "AVIF") for stages in (2, 1)
    ]
    by_stages = {(p.codec, p.stages): p for p in evaluation.baselines}
    assert by_stages["AVIF", 2].bits_per_pixel > by_stages["AVIF", 1].bits_per_pixel


def test_the_model_is_part_of_the_curves(evaluation):
    """Each decoder is a series with a point for each number of stages."""
    own = [(p.codec, p.setting) for p in evaluation.curve if p.codec in ("default", "texture")]
    assert own == [("default", 2), ("default", 1), ("texture", 2)]


def test_the_reports_show_it_all(evaluation):
    """Tables for variants, both sizes, differences, judges, and what is absent, in both forms."""
    rows = (Recognised("originals", 0, None, 0.65, 0.97), Recognised("2 stages", 2, 384, 0.2, 0.7))
    judgement = Judgement("EfficientNet-Lite0", True, 224, 400, 10, rows)
    full = dataclasses.replace(
        evaluation, judgements=(judgement,), absent=("LPIPS: no <weights> here",)
    )
    markdown, page = to_markdown(full), to_html(full, [])
    assert "## Decoders and stages" in markdown
    assert "## At equal bytes, 2 images: 1 stage" in markdown
    assert "with which the model was trained, so that its word counts for little" in markdown
    assert "| originals | – | 0.650 | 0.970 |" in markdown
    assert "- LPIPS: no <weights> here" in markdown
    assert "| texture | AVIF |" in markdown
    assert "which no reader has" in markdown
    assert "## Synthetic pictures" in markdown
    for part in (
        "Synthetic pictures",
        "Decoders and stages",
        "Recognisability",
        "0.970",
        "no &lt;weights&gt; here",
    ):
        assert part in page
    assert page.count("<table>") >= 5
    json.dumps(full.to_dict(), allow_nan=False)
