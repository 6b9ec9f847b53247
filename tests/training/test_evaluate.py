"""Evaluation: native sizes, equal bytes, the files it writes, and what it refuses."""

import dataclasses
import html.parser
import io
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from training.data.dataset import evenly, find_images, read_image
from training.data.metrics import CodeCounter
from training.evaluate import main
from training.evaluation.baselines import PeerCodec, decode_file, encode_within, peer_codecs
from training.evaluation.figures import Pair, contact_sheet, pairs
from training.evaluation.markdown import to_markdown
from training.evaluation.quality import Measures, measure
from training.evaluation.rate_distortion import evaluate
from training.evaluation.report import to_html
from training.evaluation.results import Evaluation
from training.evaluation.variants import packed_bytes
from training.onnx_export.codec import (
    CheckpointCodec,
    embed_codes,
    encode_images,
    open_codec,
    pad_to_stride,
)
from training.tokenizer.checkpoint import Checkpoint, save_checkpoint
from training.tokenizer.model import Tokenizer


@pytest.fixture(scope="module")
def codec(tiny):
    torch.manual_seed(0)
    return CheckpointCodec(Tokenizer(tiny).requires_grad_(requires_grad=False))


@pytest.fixture(scope="module")
def evaluation(codec, photos):
    return evaluate(
        codec, [photos], peer_images=3, curve_images=1, measures=Measures(), synthetic=False
    )


@pytest.fixture(scope="module")
def checkpoint(codec, tiny, tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "last.pt"
    weights = codec.model.state_dict()
    save_checkpoint(path, Checkpoint(tiny, 12, weights, weights, {}, {}))
    return path


@pytest.fixture
def few(photos, tmp_path):
    """A folder of two photographs, one of them in a folder below."""
    folder = tmp_path / "few"
    (folder / "below").mkdir(parents=True)
    shutil.copy(photos / "street.webp", folder)
    shutil.copy(photos / "lake.webp", folder / "below")
    return folder


def cut_short(path):
    """The first half of a picture as JPEG: its header can be read and its pixels can't."""
    whole = peer_codecs()[0].encode(read_image(path), 90)
    return whole[: len(whole) // 2]


class Identity(CheckpointCodec):
    """Decodes to the very image that was encoded last, padding and all."""

    def encode(self, pixels):
        self.last = pixels
        return super().encode(pixels)

    def decode(self, _codes):
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
    measured = evaluate(codec, [few], peer_images=0, measures=Measures(), synthetic=False)
    codes, pixels = 27 * 20 + 43 * 32, 213 * 160 + 341 * 256
    assert measured.bits_per_pixel == pytest.approx(8 * codes / pixels)
    expected = codes * measured.usage.entropy / pixels
    assert measured.bits_per_pixel_own_histogram == pytest.approx(expected)


def test_packed_codes_end_on_a_whole_byte(codec):
    """Without gaps between codes: 3 codes of 8 bits are 3 bytes, of 9 bits 4."""
    assert packed_bytes(codec, 3) == 3
    codec_of_512 = CheckpointCodec(codec.model)
    codec_of_512.codebook_size = 512
    assert packed_bytes(codec_of_512, 3) == 4


def test_files_are_as_long_as_the_codes_at_most(codec, few):
    """With eight times the bytes every codec's files fit, each as long as the limit or shorter."""

    class Roomy(CheckpointCodec):
        bits = 64

    measured = evaluate(
        Roomy(codec.model), [few], peer_images=2, curve_images=1, measures=Measures()
    )
    ours = np.mean([8 * r.bytes / (r.width * r.height) for r in measured.results])
    assert measured.peers
    for peer in measured.peers:
        assert (peer.images, peer.fitting) == (2, 2)
        assert 0.5 * ours < peer.bits_per_pixel <= ours


@pytest.mark.parametrize("peer", peer_codecs(), ids=lambda p: p.name)
def test_bisection_finds_the_largest_file_that_fits(peer, photos):
    """One quality more would be too long, and the picture can be decoded."""
    image = read_image(photos / "colosseum.webp")[:128, :128]
    limit = 2000
    file = encode_within(peer, image, limit)
    assert file.fits
    assert len(file.data) <= limit < len(peer.encode(image, file.quality + 1))
    assert decode_file(file.data).shape == image.shape


def test_a_codec_that_cannot_go_so_low_gives_its_smallest(photos):
    """It isn't left out: the file counts, and that it doesn't fit is said."""
    peer = peer_codecs()[0]
    image = read_image(photos / "spices.webp")
    file = encode_within(peer, image, 100)
    assert not file.fits
    assert file.data == peer.encode(image, peer.qualities[0])


def test_that_files_do_not_fit_is_reported(evaluation):
    """The tables name how many, and how small the codec's smallest files are."""
    peer = dataclasses.replace(evaluation.peers[0], fitting=1, smallest_bits_per_pixel=0.432)
    changed = dataclasses.replace(evaluation, peers=(peer,))
    assert "1 of 3; its smallest take 0.432 bpp" in to_markdown(changed)
    assert "2 of 3 files can’t be made that small" in to_html(changed, [])


def test_the_higher_the_quality_the_more_bits(evaluation):
    """The curves of the classical codecs rise."""
    for peer in evaluation.peers:
        points = [p for p in evaluation.curve if p.codec == peer.codec]
        assert len(points) >= 5
        assert [p.bits_per_pixel for p in points] == sorted(p.bits_per_pixel for p in points)
        assert points[0].quality.psnr < points[-1].quality.psnr


def test_figures_are_plain_json(evaluation):
    """The manifest of a bundle can record them: no NaN, no type of our own."""
    text = json.dumps(evaluation.to_dict(), allow_nan=False)
    values = json.loads(text)
    assert values["quality"]["psnr"] == evaluation.quality.psnr
    assert values["peers"][0]["codec"] == "JPEG"


def test_unreadable_files_are_named_and_the_others_measured(codec, few):
    """A broken header and a broken body: both are reported, neither is fatal."""
    (few / "noise.png").write_bytes(b"not an image at all")
    (few / "cut.jpg").write_bytes(cut_short(few / "street.webp"))
    measured = evaluate(codec, [few], peer_images=0, measures=Measures(), synthetic=False)
    assert measured.images == 2
    assert {b.split(":")[0] for b in measured.broken} == {"noise.png", "cut.jpg"}
    assert "2 files could not be read" in to_markdown(measured)


def test_pairs_run_from_the_best_to_the_worst(codec, evaluation, photos):
    """Evenly spread over the PSNR, both ends included: no cherries picked."""
    chosen = pairs(codec, evaluation, [photos], count=3)
    ranked = sorted((r.quality.psnr for r in evaluation.results), reverse=True)
    assert [p.psnr for p in chosen][::2] == [ranked[0], ranked[-1]]
    for pair in chosen:
        assert measure(pair.reconstruction, pair.original).psnr == pytest.approx(pair.psnr)


def test_crops_show_where_the_error_is():
    """The window with the largest sum of squared errors, the same in both pictures."""
    original = np.zeros((200, 300, 3), np.uint8)
    reconstruction = original.copy()
    reconstruction[150:160, 250:260] = 255
    before, after = Pair("a", original, reconstruction, 1.0).crops()
    assert before.shape == after.shape == (84, 112, 3)
    assert before.max() == 0
    assert (after == 255).sum() == 10 * 10 * 3


def test_crops_of_a_picture_smaller_than_a_crop_are_all_of_it():
    """Small pictures are shown whole."""
    pixels = np.zeros((20, 30, 3), np.uint8)
    assert Pair("a", pixels, pixels, 1.0).crops()[0].shape == (20, 30, 3)


def test_a_contact_sheet_is_one_webp_with_a_row_each(codec, evaluation, photos):
    """Four columns of 336×252; rows for as many pictures as are given."""
    chosen = pairs(codec, evaluation, [photos], count=2)
    with Image.open(io.BytesIO(contact_sheet(chosen))) as sheet:
        assert sheet.format == "WEBP"
        assert sheet.width > 4 * 336
        assert 2 * 252 < sheet.height < 3 * 252 + 100


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


def test_a_checkpoint_gives_all_four_files(checkpoint, few, tmp_path, capsys):
    """The verb writes JSON, Markdown, the page and the contact sheet, and prints the tables."""
    out = tmp_path / "out"
    arguments = [str(checkpoint), "--data", str(few), "--out", str(out), "--peers", "0"]
    assert main(arguments) == 0
    assert sorted(p.name for p in out.iterdir()) == [
        "contact-sheet.webp",
        "metrics.json",
        "metrics.md",
        "report.html",
    ]
    names = {r["path"] for r in json.loads((out / "metrics.json").read_text())["results"]}
    assert names == {"street.webp", "below/lake.webp"}
    assert "| PSNR |" in capsys.readouterr().out


def test_a_bundle_is_measured_through_onnx_runtime(tiny_bundle, few):
    """The same figures, computed by what will serve them; embeddings have unit length."""
    codec = open_codec(tiny_bundle, threads=1)
    measured = evaluate(codec, [few], peer_images=0, measures=Measures(), synthetic=False)
    assert measured.runtime == "ONNX Runtime fp32"
    assert 10 < measured.quality.psnr < 40
    images = [read_image(path) for path in find_images([few]).paths]
    vectors = embed_codes(codec, encode_images(codec, images))
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)


def test_batches_of_mixed_sizes_keep_their_order(codec, photos):
    """Encoding many images gives what encoding each alone gives, in the order given."""
    images = [read_image(path)[:64, : 40 + 8 * (i % 3)] for i, path in
              enumerate(find_images([photos]).paths)]  # fmt: skip
    for image, codes in zip(images, encode_images(codec, images), strict=True):
        np.testing.assert_array_equal(codes, codec.encode_image(image))


def test_evenly_chosen_indices_are_spread_and_unique():
    """Never more than there are, always the same, from the first on."""
    assert evenly(10, 4) == [0, 2, 5, 7]
    assert evenly(3, 10) == [0, 1, 2]
    assert evenly(5, 0) == []


def refused(arguments, capsys):
    """Exit code 2 and one line on standard error."""
    assert main([str(a) for a in arguments]) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ")
    assert "\n" not in error
    return error


def test_an_empty_folder_is_one_clear_line(checkpoint, tmp_path, capsys):
    """Nothing to measure."""
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "no readable image" in refused([checkpoint, "--data", empty], capsys)


def test_a_folder_that_is_not_there_is_one_clear_line(checkpoint, tmp_path, capsys):
    """Its name is in the message."""
    assert "nowhere" in refused([checkpoint, "--data", tmp_path / "nowhere"], capsys)


def test_images_that_are_all_broken_are_one_clear_line(checkpoint, few, tmp_path, capsys):
    """Their headers are fine and their bodies are not."""
    folder = tmp_path / "cut"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(cut_short(few / "street.webp"))
    assert "not one image" in refused([checkpoint, "--data", folder], capsys)


def test_a_file_that_is_no_checkpoint_is_one_clear_line(few, tmp_path, capsys):
    """Whatever is in it, nothing of it is executed."""
    path = tmp_path / "last.pt"
    path.write_bytes(b"not a checkpoint")
    assert "not a readable checkpoint" in refused([path, "--data", few], capsys)


def test_a_checkpoint_of_another_version_is_one_clear_line(checkpoint, few, tmp_path, capsys):
    """It is refused by its number and not by some later surprise."""
    values = torch.load(checkpoint, weights_only=True)
    path = tmp_path / "old.pt"
    torch.save({**values, "format": 99}, path)
    assert "not a checkpoint of format" in refused([path, "--data", few], capsys)


def test_a_checkpoint_with_other_weights_is_one_clear_line(checkpoint, few, tmp_path, capsys):
    """Weights that don't fit the configuration beside them."""
    values = torch.load(checkpoint, weights_only=True)
    values["averaged"].pop("quantizer.codebook")
    path = tmp_path / "odd.pt"
    torch.save(values, path)
    assert "don't fit" in refused([path, "--data", few], capsys)


@pytest.mark.parametrize("more", [[], ["--labelled", "."]], ids=["alone", "labelled"])
def test_a_plain_autoencoder_is_one_clear_line(more, tiny, few, tmp_path, capsys):
    """It has no codes to measure: figures of a codebook that isn't used would mean nothing."""
    quantizer = dataclasses.replace(tiny.quantizer, kind="none")
    config = dataclasses.replace(tiny, quantizer=quantizer)
    weights = Tokenizer(config).state_dict()
    path = tmp_path / "plain.pt"
    save_checkpoint(path, Checkpoint(config, 12, weights, weights, {}, {}))
    assert "plain autoencoder" in refused([path, "--data", few, *more], capsys)


def test_an_output_that_cannot_be_written_is_one_clear_line(checkpoint, few, tmp_path, capsys):
    """A file stands where the folder should be."""
    (tmp_path / "taken").write_text("a file")
    arguments = [checkpoint, "--data", few, "--peers", "0", "--out", tmp_path / "taken"]
    assert "taken" in refused(arguments, capsys)


@pytest.mark.filterwarnings("ignore:`torch.jit.load`:DeprecationWarning")
def test_an_lpips_network_that_is_not_there_is_one_clear_line(checkpoint, few, capsys):
    """Its file is named."""
    error = refused([checkpoint, "--data", few, "--lpips", "absent.pt"], capsys)
    assert "absent.pt is not a readable TorchScript file" in error


def test_a_folder_that_is_no_bundle_is_one_clear_line(few, tmp_path, capsys):
    """A folder is taken for a bundle."""
    assert "manifest.json" in refused([tmp_path, "--data", few], capsys)


def test_a_precision_that_a_bundle_lacks_is_one_clear_line(checkpoint, few, capsys):
    """A checkpoint has fp32 only; other precisions come from export."""
    error = refused([checkpoint, "--data", few, "--precision", "int8"], capsys)
    assert "int8" in error


def test_the_console_is_told_nothing_by_default(codec, few, capsys):
    """As a function, evaluation is silent."""
    evaluate(codec, [few], peer_images=0, measures=Measures(), synthetic=False)
    assert capsys.readouterr() == ("", "")
    assert isinstance(evaluate(codec, [few], peer_images=0, console=Console(quiet=True)),
                      Evaluation)  # fmt: skip


def test_peers_are_named_as_people_write_them():
    """JPEG is always there; the names are for tables."""
    names = [peer.name for peer in peer_codecs()]
    assert names[0] == "JPEG"
    assert set(names) <= {"JPEG", "WebP", "AVIF"}
    assert all(isinstance(peer, PeerCodec) for peer in peer_codecs())
