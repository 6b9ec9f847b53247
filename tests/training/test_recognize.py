"""The recognizer: what it learns, what is written, and what is refused."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from bundle import open_bundle
from training.data.dataset import reduced
from training.onnx_export.graphs import session_of
from training.onnx_export.parity import prove_recognizer
from training.onnx_export.weight_storage import rounded
from training.recognition.augmented_views import Views, encode_views, view_of
from training.recognition.bundle import learn, split_by_class
from training.recognition.calibration import (
    calibration_error,
    fit_temperature,
    negative_log_likelihood,
    probabilities,
    reliability,
)
from training.recognition.dataset import CodeSource
from training.recognition.metrics import classify
from training.recognition.network import Layout, Recognizer, finished, known_vectors
from training.recognition.trainer import Recipe, score, train
from training.recognize import main

SMALL = Layout(table=24, widths=(16, 16), depths=(1, 1))
# Wide enough for 8 numbers of the codebook and 64 of the surroundings.
WIDE = dataclasses.replace(SMALL, table=72)
QUICK = Recipe(epochs=12, batch=8, bf16=False, rate=1e-2)
CODES = 64


@pytest.fixture(scope="module")
def codebook():
    return np.random.default_rng(0).normal(size=(CODES, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def task():
    """Grids of two sizes whose class is the half of the codebook that their codes come from."""
    random = np.random.default_rng(1)
    labels = np.arange(48) % 2
    shapes = [(5, 7) if i % 3 else (6, 6) for i in range(48)]
    flat = [
        np.concatenate(
            [
                random.integers(0, CODES // 2, rows * columns) + CODES // 2 * label
                for (rows, columns), label in zip(shapes, labels, strict=True)
            ]
        ).astype(np.uint16)
        for _ in range(3)
    ]
    return Views(shapes, flat), labels


@pytest.fixture(scope="module")
def learnt(codebook, task):
    views, labels = task
    return learn(codebook, views, labels, 2, 8, layout=WIDE, recipe=QUICK, held_out_share=0.25)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two classes that a glance tells apart, bright stripes and dark noise, of two sizes."""
    root = tmp_path_factory.mktemp("labelled")
    random = np.random.default_rng(0)
    for part, count in (("train", 8), ("test", 4)):
        for name in ("noise", "stripes"):
            (root / part / name).mkdir(parents=True)
            for index in range(count):
                height = 40 if index % 2 else 48
                pixels = random.integers(0, 90, (height, 48, 3))
                if name == "stripes":
                    pixels[:, ::2] += 150
                Image.fromarray(pixels.astype(np.uint8)).save(root / part / name / f"{index}.png")
    return root


def command(bundle, folder, tmp_path, *more):
    options = ["--epochs", "2", "--views", "3", "--no-bf16", "--cache", str(tmp_path / "cache")]
    report = ["--report", str(tmp_path / "report")]
    return main([str(bundle), "--data", str(folder), *options, *report, *more])


def test_a_separable_task_is_learnt(learnt, task):
    """Classes that share no code: every grid is recognized, whatever its size."""
    views, labels = task
    grids = [views.grid(i, 0) for i in range(len(labels))]
    with torch.no_grad():
        taken = [int(learnt.network(torch.from_numpy(g[None]))[0].argmax()) for g in grids]
    assert taken == labels.tolist()


def test_the_same_seed_gives_the_same_weights(codebook, task):
    """Bit by bit, and another seed gives others."""
    views, labels = task
    fit, held_out = split_by_class(labels, 0.25, 0)

    def weights(seed):
        torch.manual_seed(seed)
        network = Recognizer(known_vectors(torch.from_numpy(codebook), None), 2, SMALL)
        recipe = dataclasses.replace(QUICK, epochs=2, seed=seed)
        trained = train(network, CodeSource(views, labels), fit, held_out, recipe)
        return torch.cat([w.flatten() for w in trained.network.parameters()])

    first = weights(3)
    assert torch.equal(first, weights(3))
    assert not torch.equal(first, weights(4))


def test_the_best_epoch_is_kept(codebook, task):
    """With a rate that destroys what was learnt, the weights kept are of an earlier epoch."""
    views, labels = task
    fit, held_out = split_by_class(labels, 0.25, 0)
    network = Recognizer(known_vectors(torch.from_numpy(codebook), None), 2, SMALL)
    source, told = CodeSource(views, labels), []
    recipe = dataclasses.replace(QUICK, epochs=30, patience=3, average=0.0, rate=0.5)
    trained = train(network, source, fit, held_out, recipe, told.append)
    losses = [epoch.loss for epoch in told]
    assert trained.best_epoch == int(np.argmin(losses)) + 1
    assert trained.epochs == len(losses) <= trained.best_epoch + 3
    kept = score(trained.network, source, held_out)
    assert negative_log_likelihood(kept, labels[held_out]) == pytest.approx(min(losses), rel=1e-4)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (2, 1), (7, 5), (16, 16), (33, 2)])
def test_logits_are_the_mean_of_the_map_plus_bias(learnt, shape):
    """In the exported graph, at any grid size; and the graph is what was trained."""
    codes = np.random.default_rng(2).integers(0, CODES, (3, *shape))
    logits, activation = session_of(learnt.graph).run(["logits", "map"], {"codes": codes})
    assert activation.shape == (3, 2, *shape)
    bias = learnt.network.head.bias.numpy()
    close = 1e-5 * np.abs(activation).max()
    np.testing.assert_allclose(logits, activation.mean(axis=(2, 3)) + bias, atol=close)
    with torch.no_grad():
        wanted = learnt.network(torch.from_numpy(codes))
    np.testing.assert_allclose(logits, wanted[0], atol=close)
    np.testing.assert_allclose(activation, wanted[1], atol=close)


def test_finishing_changes_nothing_but_temperature_and_rounding(codebook):
    """Without rounding, folded normalisation and stem give the same map, over the temperature."""
    torch.manual_seed(0)
    network = Recognizer(known_vectors(torch.from_numpy(codebook), None), 3, WIDE)
    codes = torch.randint(0, CODES, (8, 6, 7))
    for _ in range(3):  # so that the statistics and the scales aren't those of a new network
        network.train()(codes)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias)
    with torch.no_grad():
        wanted = network.eval()(codes)[0] / 2.5
        made = finished(network, 2.5)(codes)[0]
    assert (made - wanted).abs().max() < 0.03 * wanted.abs().max()
    assert (made - network(codes)[0] / 2.4).abs().max() > (made - wanted).abs().max()


def test_the_proof_sees_another_network(learnt, task):
    """The parity figure of the network itself is near zero; of a changed one, it is not."""
    grids = [task[0].grid(i, 0) for i in range(6)]
    session = session_of(learnt.graph)
    assert prove_recognizer(learnt.network, session, grids).score_error < 1e-5
    with torch.no_grad():
        other = finished(learnt.network, 1.01)
    assert prove_recognizer(other, session, grids).score_error > 1e-3


def test_rounded_weights_stay_as_they_are_when_rounded_again():
    """At most 255 values a row; rounding is a projection; small tensors are left alone."""
    weight = torch.randn(64, 32, generator=torch.Generator().manual_seed(0))
    once = rounded(weight)
    assert (once - weight).abs().max() <= weight.abs().max() / 253
    assert torch.allclose(rounded(once), once, rtol=1e-6, atol=0)
    assert all(len(row.unique()) <= 255 for row in once)
    assert torch.equal(rounded(weight.flatten()), weight.flatten())
    assert torch.equal(rounded(weight[:2]), weight[:2])


def test_calibration_error_of_numbers_made_by_hand():
    """Four answers at 0.9, three right; two at 0.6, one right: (4·0.15 + 2·0.1) / 6."""
    shares = np.array([[0.9, 0.1]] * 4 + [[0.4, 0.6]] * 2)
    labels = np.array([0, 0, 0, 1, 1, 0])
    bins = reliability(shares, labels)
    assert calibration_error(bins) == pytest.approx((4 * 0.15 + 2 * 0.1) / 6)
    assert [b.count for b in bins if b.count] == [2, 4]
    # 0.6 and 0.9 are the upper ends of bins of width 1/15, or fall into the next by rounding.
    assert all(b.low - 1e-9 <= b.confidence <= b.high + 1e-9 for b in bins if b.count)


def test_certainty_belongs_to_the_last_bin():
    """A probability of exactly 1 is counted."""
    bins = reliability(np.array([[1.0, 0.0]]), np.array([0]))
    assert bins[-1].count == 1
    assert calibration_error(bins) == 0


def test_temperature_lowers_the_loss_of_what_it_was_fitted_to():
    """Logits three times too large: about three, a lower loss, and the same answers."""
    random = np.random.default_rng(0)
    logits = random.normal(size=(4000, 4)).astype(np.float32) * 2
    labels = np.array([random.choice(4, p=p) for p in probabilities(logits)])
    temperature = fit_temperature(3 * logits, labels)
    assert temperature == pytest.approx(3, rel=0.1)
    before = negative_log_likelihood(3 * logits, labels)
    assert negative_log_likelihood(3 * logits, labels, temperature) < before


def test_figures_of_a_confusion_made_by_hand():
    """Five images of three classes: accuracies, recall, precision and who is taken for whom."""
    logits = np.eye(3, dtype=np.float32)[[0, 0, 1, 1, 0]] * 4
    f = classify(logits, np.array([0, 0, 0, 1, 2]), ("a", "b", "c"), 2.0)
    assert (f.top1, f.top5) == (pytest.approx(0.6), 1.0)
    assert f.confusion == [[2, 1, 0], [0, 1, 0], [1, 0, 0]]
    assert [c.recall for c in f.classes] == [pytest.approx(2 / 3), 1.0, 0.0]
    assert [c.precision for c in f.classes] == [pytest.approx(2 / 3), 0.5, 0.0]
    assert [c.mistaken_for for c in f.classes] == ["b", None, "a"]
    assert f.error != f.error_uncalibrated


def test_views_are_the_image_its_mirror_image_and_edits():
    """The first two exactly; the others of the same size, decided by seed and number alone."""
    image = np.random.default_rng(0).integers(0, 256, (40, 56, 3)).astype(np.uint8)
    assert np.array_equal(view_of(image, 0, (1,)), image)
    assert np.array_equal(view_of(image, 1, (1,)), image[:, ::-1])
    edit = view_of(image, 2, (1,))
    assert edit.shape == image.shape
    assert edit.dtype == np.uint8
    assert np.array_equal(edit, view_of(image, 2, (1,)))
    assert not np.array_equal(edit, view_of(image, 3, (1,)))
    assert not np.array_equal(edit, view_of(image, 2, (2,)))


class Counting:
    """A codec whose code is a patch's red, and which counts what it encodes."""

    stride, encoded = 8, 0

    def __init__(self, fingerprint="one encoder"):
        self.fingerprint = fingerprint

    def encode(self, pixels):
        self.encoded += len(pixels)
        return pixels[:, ::8, ::8, 0].astype(np.int64)


def test_views_are_encoded_once_and_read_afterwards(tmp_path):
    """The cache gives the same codes without encoding; more views encode only what is new."""
    random = np.random.default_rng(0)
    images = [random.integers(0, 256, (16, 8 * n, 3)).astype(np.uint8) for n in (1, 2, 3)]

    def grids(codec, count, seed=0):
        views = encode_views(codec, codec, images, count, seed=seed, cache=tmp_path)
        return [views.grid(i, v).tolist() for i in range(3) for v in range(count)]

    codec = Counting()
    first = grids(codec, 2)
    assert codec.encoded == 6
    assert first[0] == images[0][::8, ::8, 0].tolist()
    assert grids(codec, 2) == first
    assert codec.encoded == 6
    grids(codec, 3)
    assert codec.encoded == 9
    grids(codec, 3, seed=1)
    assert codec.encoded == 18
    other = Counting("another encoder of the same code space")
    grids(other, 2)
    assert other.encoded == 6


def test_large_images_are_reduced_and_small_ones_left():
    """By their short side; the proportions stay."""
    assert reduced(np.zeros((100, 300, 3), np.uint8), 50).shape == (50, 150, 3)
    assert reduced(np.zeros((20, 10, 3), np.uint8), 50).shape == (20, 10, 3)


def test_every_class_is_on_both_sides_of_the_split():
    """A share of each, at least one; nothing twice, nothing lost."""
    labels = np.repeat([0, 1, 2], [40, 10, 2])
    fit, held_out = split_by_class(labels, 0.2, 0)
    assert np.bincount(labels[held_out]).tolist() == [8, 2, 1]
    assert sorted([*fit, *held_out]) == list(range(52))


def test_the_command_writes_a_recognizer_and_nothing_else(tiny_bundle, folder, tmp_path):
    """Two new things: the graph and its entry. The code space and all other files stay."""
    out = tmp_path / "out"
    assert command(tiny_bundle, folder, tmp_path, "--out", str(out), "--name", "kinds",
                   "--licence", "CC0-1.0") == 0  # fmt: skip
    before, after = open_bundle(tiny_bundle), open_bundle(out)
    entry = after.manifest.recognizers["kinds"]
    assert entry.classes == ("noise", "stripes")
    assert entry.licence == "CC0-1.0"
    assert entry.metrics["n_test"] == 8
    assert after.manifest.code_space == before.manifest.code_space
    assert set(after.manifest.files) - set(before.manifest.files) == {"recognizer-kinds.onnx"}
    for name in set(before.manifest.files) - {"MODEL_CARD.md"}:
        assert after.read(name) == before.read(name)
    assert "**kinds**" in (out / "MODEL_CARD.md").read_text()
    assert after.manifest.parity["recognizer-kinds"]["fp32"]["score_error"] <= 1e-4


def test_the_report_tells_what_the_manifest_tells(tiny_bundle, folder, tmp_path):
    """JSON, Markdown and a page that loads nothing, with a picture for each answer shown."""
    out = tmp_path / "out"
    assert command(tiny_bundle, folder, tmp_path, "--out", str(out), "--name", "kinds") == 0
    metrics = json.loads((tmp_path / "report" / "metrics.json").read_text())
    entry = open_bundle(out).manifest.recognizers["kinds"]
    assert metrics["metrics"] == entry.metrics
    assert np.array(metrics["figures"]["confusion"]).sum() == 8
    page = (tmp_path / "report" / "report.html").read_text()
    assert page.count("with its map") == 8
    assert "http" not in page
    assert "| stripes | 4 |" in (tmp_path / "report" / "metrics.md").read_text()


def test_a_name_that_exists_is_refused_unless_replaced(tiny_bundle, folder, tmp_path, capsys):
    """A second one of the name changes nothing; another name, or --replace, is written."""
    out = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    assert command(out, folder, tmp_path, "--name", "kinds") == 0
    before = (out / "manifest.json").read_bytes()
    assert command(out, folder, tmp_path, "--name", "kinds") == 2
    assert "--replace" in capsys.readouterr().err
    assert (out / "manifest.json").read_bytes() == before
    assert command(out, folder, tmp_path, "--name", "others") == 0
    assert command(out, folder, tmp_path, "--name", "kinds", "--replace", "--seed", "1") == 0
    assert set(open_bundle(out).manifest.recognizers) == {"kinds", "others"}


def test_pixels_and_reconstructions_are_compared(tiny_bundle, folder, tmp_path):
    """With --compare each of them, the features, and files of several sizes are in the table."""
    out = tmp_path / "out"
    assert command(tiny_bundle, folder, tmp_path, "--out", str(out), "--name", "k", "--compare",
                   "--epochs", "1") == 0  # fmt: skip
    peers = json.loads((tmp_path / "report" / "metrics.json").read_text())["peers"]
    names = [peer["name"] for peer in peers]
    assert names[:3] == [
        "codes, k",
        "pixels, the same network",
        "reconstructions, the same network",
    ]
    assert "embedding, linear" in names
    sizes = [peer["bytes"] for peer in peers if peer["name"].startswith("JPEG")]
    assert sizes == sorted(sizes)
    assert all(0 <= peer["top1"] <= 1 for peer in peers)


@pytest.mark.parametrize(
    ("option", "value"),
    [("--epochs", "0"), ("--views", "0"), ("--side", "-5"), ("--seed", "-1"), ("--held-out", "1")],
)
def test_an_impossible_option_is_one_line(option, value, tiny_bundle, folder, tmp_path, capsys):
    """It is named with its value."""
    out = ["--out", str(tmp_path / "out"), "--name", "x"]
    assert command(tiny_bundle, folder, tmp_path, *out, option, value) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {option} must be ")
    assert error.endswith(f"not {float(value) if option == '--held-out' else value}\n")


@pytest.mark.parametrize(
    "fault", ["no test", "one class", "no bundle", "name", "device", "other space"]
)
def test_what_cannot_be_learnt_from_is_one_line(fault, tiny_bundle, folder, tmp_path, capsys):
    """Exit code 2, one line that names the fault, nothing written."""
    data = shutil.copytree(folder, tmp_path / "data")
    out = shutil.copytree(tiny_bundle, tmp_path / "out")
    more = ["--out", str(out), "--name", "x"]
    bundle = tiny_bundle
    if fault == "no test":
        shutil.rmtree(data / "test")
    elif fault == "one class":
        shutil.rmtree(data / "train" / "noise")
        shutil.rmtree(data / "test" / "noise")
    elif fault == "no bundle":
        bundle = tmp_path / "absent"
    elif fault == "name":
        more = ["--out", str(out), "--name", "Not A Name"]
    elif fault == "device":
        more = ["--out", str(out), "--name", "x", "--device", "gpu"]
    else:
        text = (out / "manifest.json").read_text()
        space = open_bundle(out).manifest.code_space
        (out / "manifest.json").write_text(text.replace(space, "0" * 64))
    before = (out / "manifest.json").read_bytes()
    assert command(bundle, data, tmp_path, *more) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert (out / "manifest.json").read_bytes() == before
