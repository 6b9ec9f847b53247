"""Evaluation: native sizes, equal bytes, codes counted over the whole set."""

import json

import numpy as np
import pytest
import torch
from rich.console import Console

from training.data.dataset import find_images, read_image
from training.data.metrics import CodeCounter
from training.evaluation.markdown import to_markdown
from training.evaluation.quality import Measures, measure
from training.evaluation.rate_distortion import evaluate
from training.evaluation.results import Evaluation
from training.evaluation.variants import packed_bytes
from training.onnx_export.any_size import embed_codes, encode_images
from training.onnx_export.codec import CheckpointCodec, open_codec, pad_to_stride
from training.tokenizer.model import Tokenizer


class Identity(CheckpointCodec):
    """Decodes to the very image that was encoded last, padding and all."""

    def encode(self, pixels):
        self.last = pixels
        return super().encode(pixels)

    def decode(self, _codes, _decoder=None):
        return self.last


def test_images_are_measured_at_their_own_size(evaluation, photos):
    """No resizing, no cropping: the sizes are those of the files."""
    sizes = {r.path: (r.width, r.height) for r in evaluation.results}
    found = find_images([photos])
    expected = {p.name: size for p, size in zip(found.paths, found.sizes, strict=True)}
    assert sizes == expected
    assert evaluation.images == len(expected)


def test_padding_repeats_edges_and_is_cropped_back(tiny, photos):
    """A codec that loses nothing has no error on a size that is no multiple of its stride."""
    codec = Identity(Tokenizer(tiny))
    image = read_image(photos / "street.webp")
    codes = codec.encode_image(image)
    assert codes.shape == (20, 27)
    assert measure(codec.decode_image(codes, 160, 213), image).psnr == pytest.approx(120)
    padded = pad_to_stride(image, 8)
    assert padded.shape == (160, 216, 3)
    np.testing.assert_array_equal(padded[:, 213], image[:, 212])


def test_quality_is_the_mean_over_images(evaluation):
    """Every image counts the same, whatever its size."""
    mean = np.mean([r.quality.psnr for r in evaluation.results])
    assert evaluation.quality.psnr == pytest.approx(mean)


def test_small_images_are_left_out_of_ms_ssim_and_counted(evaluation):
    """MS-SSIM isn't defined below 176 pixels: no number instead of a wrong one."""
    small = [r for r in evaluation.results if min(r.width, r.height) < 176]
    assert evaluation.without_ms_ssim == len(small) == 5
    assert all(r.quality.ms_ssim is None for r in small)
    assert evaluation.quality.ms_ssim is not None
    assert "MS-SSIM leaves out 5 images" in to_markdown(evaluation)


def test_codes_are_counted_over_the_whole_set(codec, evaluation, photos):
    """Usage is of all codes together, not an average over images."""
    counter = CodeCounter(256)
    images = [read_image(path) for path in find_images([photos]).paths]
    for codes in encode_images(codec, images):
        counter.add(torch.from_numpy(codes))
    assert evaluation.usage == counter.usage()


def test_bits_per_pixel_are_of_packed_codes_over_true_pixels(codec, few):
    """27×20 and 43×32 codes of 8 bits for 213×160 and 341×256 pixels."""
    measured = evaluate(codec, [few], baseline_images=0, measures=Measures(), synthetic=False)
    codes, pixels = 27 * 20 + 43 * 32, 213 * 160 + 341 * 256
    assert measured.bits_per_pixel == pytest.approx(8 * codes / pixels)
    expected = codes * measured.usage.entropy / pixels
    assert measured.bits_per_pixel_own_histogram == pytest.approx(expected)


def test_packed_codes_end_on_a_whole_byte(codec):
    """Without gaps between codes: 3 codes of 8 bits are 3 bytes, of 9 bits 4."""
    assert packed_bytes(codec, 3) == 3
    codec_of_512 = CheckpointCodec(codec.model)
    codec_of_512.codebook_sizes = (512,)
    assert packed_bytes(codec_of_512, 3) == 4


def test_files_are_as_long_as_the_codes_at_most(codec, few):
    """With eight times the bytes every codec's files fit, each as long as the limit or shorter."""

    class Roomy(CheckpointCodec):
        bits = 64

    measured = evaluate(
        Roomy(codec.model), [few], baseline_images=2, curve_images=1, measures=Measures()
    )
    ours = np.mean([8 * r.bytes / (r.width * r.height) for r in measured.results])
    assert measured.baselines
    for baseline in measured.baselines:
        assert (baseline.images, baseline.fitting) == (2, 2)
        assert 0.5 * ours < baseline.bits_per_pixel <= ours


def test_the_higher_the_quality_the_more_bits(evaluation):
    """The curves of the classical codecs rise."""
    for baseline in evaluation.baselines:
        points = [p for p in evaluation.curve if p.codec == baseline.codec]
        assert len(points) >= 5
        assert [p.bits_per_pixel for p in points] == sorted(p.bits_per_pixel for p in points)
        assert points[0].quality.psnr < points[-1].quality.psnr


def test_figures_are_plain_json(evaluation):
    """The manifest of a bundle can record them: no NaN, no type of our own."""
    text = json.dumps(evaluation.to_dict(), allow_nan=False)
    values = json.loads(text)
    assert values["quality"]["psnr"] == evaluation.quality.psnr
    assert values["baselines"][0]["codec"] == "JPEG"


def test_unreadable_files_are_named_and_the_others_measured(codec, few, cut_jpeg):
    """A broken header and a broken body: both are reported, neither is fatal."""
    (few / "noise.png").write_bytes(b"not an image at all")
    (few / "cut.jpg").write_bytes(cut_jpeg)
    measured = evaluate(codec, [few], baseline_images=0, measures=Measures(), synthetic=False)
    assert measured.images == 2
    assert {b.split(":")[0] for b in measured.broken} == {"noise.png", "cut.jpg"}
    assert "2 files could not be read" in to_markdown(measured)


def test_a_bundle_is_measured_through_onnx_runtime(tiny_bundle, few):
    """The same figures, computed by what will serve them; embeddings have unit length."""
    codec = open_codec(tiny_bundle, threads=1)
    measured = evaluate(codec, [few], baseline_images=0, measures=Measures(), synthetic=False)
    assert measured.runtime == "ONNX Runtime fp32"
    assert 10 < measured.quality.psnr < 40
    images = [read_image(path) for path in find_images([few]).paths]
    vectors = embed_codes(codec, encode_images(codec, images))
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)


def test_the_console_is_told_nothing_by_default(codec, few, capsys):
    """As a function, evaluation is silent."""
    evaluate(codec, [few], baseline_images=0, measures=Measures(), synthetic=False)
    assert capsys.readouterr() == ("", "")
    assert isinstance(evaluate(codec, [few], baseline_images=0, console=Console(quiet=True)),
                      Evaluation)  # fmt: skip
