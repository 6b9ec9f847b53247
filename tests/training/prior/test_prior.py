"""The command from photographs to a prior in a bundle: proven, resumable, its split honest."""

import json
import shutil

import numpy as np
import pytest
import torch

from bundle import open_bundle
from training.data.dataset import DataError
from training.prior.__main__ import main
from training.prior.context import Margins
from training.prior.dataset import Cuts, find_photographs, read_sources, view_of
from training.prior.trainer import Recipe, train


@pytest.fixture
def bundle_copy(tiny_bundle, tmp_path):
    """A copy of the tiny bundle."""
    return shutil.copytree(tiny_bundle, tmp_path / "tiny")


def options(bundle, photos, state, *more):
    return [
        *(str(bundle), "--replace", "--data", str(photos), "--held-out", "0.2", "--hidden", "16"),
        *("--views", "2", "--steps", "8", "--threads", "1", "--state", str(state), *more),
    ]


def test_a_bundle_gets_a_prior_and_nothing_else_changes(bundle_copy, tiny_bundle, photos, tmp_path):
    """Graphs, digest, figures and card are there; codes and version are what they were."""
    test = f"lakes={photos}"
    assert main(options(bundle_copy, photos, tmp_path / "state", "--test", test)) == 0
    made, old = open_bundle(bundle_copy).manifest, open_bundle(tiny_bundle).manifest
    assert made.prior.digest != old.prior.digest
    assert set(made.prior.metrics) == {"bits_per_code_held_out", "bits_per_code_lakes"}
    assert "## Prior" in (bundle_copy / "MODEL_CARD.md").read_text("utf-8")
    assert (made.code_space, made.version) == (old.code_space, old.version)
    same = set(old.files) - {"MODEL_CARD.md", "prior.onnx", "prior-members.onnx"}
    assert {name: made.files[name] for name in same} == {name: old.files[name] for name in same}
    facts = made.training["prior"]
    assert facts["images"] + facts["images_held_out"] == len(list(photos.glob("*.webp")))


def test_a_second_run_makes_the_same_prior(bundle_copy, photos, tmp_path):
    """Seeds decide everything, and a finished run that is started again changes nothing."""
    main(options(bundle_copy, photos, tmp_path / "one"))
    first = open_bundle(bundle_copy).manifest.prior.digest
    main(options(bundle_copy, photos, tmp_path / "two"))
    assert open_bundle(bundle_copy).manifest.prior.digest == first
    main(options(bundle_copy, photos, tmp_path / "two"))
    assert open_bundle(bundle_copy).manifest.prior.digest == first


@pytest.mark.parametrize(
    "wrong",
    [
        ("--test", "kodak"),
        ("--test", "kodak=/absent"),
        ("--sources", "/absent.csv"),
        ("--steps", "0"),
        ("--held-out", "0"),
    ],
)
def test_impossible_options_are_one_line(bundle_copy, photos, tmp_path, capsys, wrong):
    """No stack trace, and the bundle stays."""
    before = (bundle_copy / "manifest.json").read_bytes()
    assert main(options(bundle_copy, photos, tmp_path, *wrong)) == 2
    assert capsys.readouterr().err.strip().splitlines()[-1].startswith("error: ")
    assert (bundle_copy / "manifest.json").read_bytes() == before


def test_a_prior_is_replaced_only_when_told(bundle_copy, photos, tmp_path, capsys):
    """Codes that were coded with the one that is there could no longer be decoded."""
    before = (bundle_copy / "manifest.json").read_bytes()
    arguments = [a for a in options(bundle_copy, photos, tmp_path) if a != "--replace"]
    assert main(arguments) == 2
    assert "--replace" in capsys.readouterr().err
    assert (bundle_copy / "manifest.json").read_bytes() == before


def test_images_of_one_source_fall_on_one_side(photos, tmp_path):
    """A tile is never learnt from while its photograph is held out."""
    for file in photos.glob("*.webp"):
        for tile in range(4):
            shutil.copy(file, tmp_path / f"{file.stem}_{tile}.webp")
    sources = tmp_path / "sources.csv"
    rows = [f"{p.name},{p.stem[:-2]}" for p in sorted(tmp_path.glob("*.webp"))]
    sources.write_text("\n".join(["file,source", *rows]), "utf-8")
    found = find_photographs([tmp_path], read_sources(sources), 0.3)
    shown = [{path.stem[:-2] for path in side} for side in (found.training, found.held_out)]
    assert not shown[0] & shown[1]
    assert len(found.training) % 4 == 0


def test_a_table_of_sources_needs_its_columns(tmp_path):
    """A table without them is refused, not read as if nothing were related."""
    table = tmp_path / "sources.csv"
    table.write_text("name,of\na.png,a\n", "utf-8")
    with pytest.raises(DataError, match="columns file and source"):
        read_sources(table)


def test_the_first_view_is_the_image_and_others_are_not(images):
    """What is measured is measured on images as they are."""
    assert view_of(images[0], 0, (0,)) is images[0]
    others = [view_of(images[0], index, (0,)) for index in range(1, 5)]
    assert all(not np.array_equal(other, images[0]) for other in others)
    assert np.array_equal(others[0], view_of(images[0], 1, (0,)))


def test_a_batch_is_a_function_of_seed_and_step():
    """A resumed run sees what an unbroken one would have seen."""
    grids = [np.random.default_rng(i).integers(0, 9, (1, 9, 12), np.uint16) for i in range(3)]
    margins = Margins(2, 0, 2, 1)
    framed = [margins.around(grid, [9]) for grid in grids]
    first, second = (Cuts(framed, margins, 6, seed=1) for _ in range(2))
    first.batch(0, 4)
    assert torch.equal(first.batch(7, 4), second.batch(7, 4))
    assert not torch.equal(first.batch(7, 4), first.batch(8, 4))
    with pytest.raises(DataError, match="smaller"):
        Cuts(framed, margins, 10, seed=1)


def test_a_run_that_was_stopped_goes_on_as_if_it_had_not(make_network, tmp_path):
    """Weights after the last step are the same to the last bit."""
    grids = [np.random.default_rng(i).integers(0, 40, (1, 12, 12), np.uint16) for i in range(4)]
    recipe = Recipe(steps=12, cuts=4, check_every=4)

    class Stopped(Exception):
        pass

    def stop(step, _loss, _measured):
        if step == 6:
            raise Stopped

    whole, resumed = make_network(40), make_network(40)
    done = train(whole, 0, [40], grids, grids[:1], recipe)
    state = tmp_path / "state.pt"
    with pytest.raises(Stopped):
        train(resumed, 0, [40], grids, grids[:1], recipe, state=state, tell=stop)
    resumed = make_network(40)
    again = train(resumed, 0, [40], grids, grids[:1], recipe, state=state)
    assert again.best == done.best
    assert all(
        torch.equal(a, b)
        for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True)
    )


def test_a_state_of_another_training_is_refused(make_network, tmp_path):
    """Other options don't silently go on with other weights."""
    grids = [np.zeros((1, 12, 12), np.uint16)]
    state = tmp_path / "state.pt"
    train(make_network(40), 0, [40], grids, grids, Recipe(steps=2, check_every=1), state=state)
    with pytest.raises(DataError, match="another training"):
        train(make_network(40), 0, [40], grids, grids, Recipe(steps=3, check_every=1), state=state)
    state.write_bytes(b"nothing")
    with pytest.raises(DataError, match="not the state"):
        train(make_network(40), 0, [40], grids, grids, Recipe(steps=2, check_every=1), state=state)


def test_training_ends_early_where_nothing_gets_better(make_network):
    """Codes without any order can't be learnt: patience ends it."""
    grids = [np.random.default_rng(i).integers(0, 40, (1, 12, 12), np.uint16) for i in range(4)]
    recipe = Recipe(steps=4000, cuts=2, check_every=1, patience=2, rounding=0.0)
    done = train(make_network(40), 0, [40], grids, grids[:1], recipe)
    assert done.step < 4000


def test_damaged_codes_in_the_cache_are_one_line(bundle_copy, photos, tmp_path, capsys):
    """A broken file in the cache names itself."""
    main(options(bundle_copy, photos, tmp_path / "state"))
    for file in (tmp_path / "state" / "codes").glob("*.npz"):
        file.write_bytes(b"nothing")
    assert main(options(bundle_copy, photos, tmp_path / "state")) == 2
    assert "damaged" in capsys.readouterr().err


def test_the_manifest_stays_readable(bundle_copy, photos, tmp_path):
    """JSON without infinity or NaN, even where training was too short for a check."""
    main(options(bundle_copy, photos, tmp_path / "state"))
    json.loads((bundle_copy / "manifest.json").read_text("utf-8"))
