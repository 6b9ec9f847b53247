"""Facts about a prior's entry in the manifest, and about its digest."""

import json

import pytest

from bundle import Manifest, Prior, PriorStage, open_bundle, prior_digest
from bundle.errors import ManifestMalformed
from bundle.manifest_json import format_manifest, parse_manifest


@pytest.fixture
def manifest(tiny_bundle) -> Manifest:
    return open_bundle(tiny_bundle).manifest


def changed(manifest: Manifest, change) -> Manifest:
    values = json.loads(format_manifest(manifest))
    change(values)
    return parse_manifest(json.dumps(values).encode())


def test_a_prior_is_written_and_read_the_same(manifest):
    """Digest, graphs, neighbours and figures survive."""
    assert isinstance(manifest.prior, Prior)
    assert isinstance(manifest.prior.stages[0], PriorStage)
    assert parse_manifest(format_manifest(manifest)) == manifest


def test_a_bundle_needs_no_prior(manifest):
    """Manifests from before priors are read as ever."""
    assert changed(manifest, lambda values: values.pop("prior")).prior is None


@pytest.mark.parametrize(
    ("place", "why"),
    [
        ([0, 0, 0], "the place itself"),
        ([0, 0, 1], "to the right"),
        ([0, 1, 0], "below"),
        ([1, -1, 0], "a later stage"),
        ([-1, -1, 0], "no stage"),
        ([0, -17, 0], "too far"),
        ([0, -1, 17], "too far"),
        ([0, -1], "two numbers"),
        ([0, -1, 0.5], "no integer"),
        ([0, -1, True], "no integer"),
        ("0-1", "no list"),
    ],
)
def test_neighbours_that_are_not_known_before_are_refused(manifest, place, why):
    """A graph that looks ahead could never be decoded."""

    def change(values):
        values["prior"]["stages"][0]["neighbours"][0] = place

    with pytest.raises(ManifestMalformed, match="neighbour"):
        changed(manifest, change)


@pytest.mark.parametrize("count", [0, 65])
def test_the_number_of_neighbours_is_bounded(manifest, count):
    """A reader's work has a bound that the manifest can't lift."""

    def change(values):
        values["prior"]["stages"][0]["neighbours"] = [[0, -1, 0]] * count

    with pytest.raises(ManifestMalformed, match="1 to 64 neighbours"):
        changed(manifest, change)


def test_a_prior_names_graphs_that_are_there(manifest):
    """A dangling name is refused when the bundle is opened, not at the first request."""

    def change(values):
        values["prior"]["stages"][0]["members"] = "absent"

    with pytest.raises(ManifestMalformed, match="graph that isn't listed"):
        changed(manifest, change)


def test_a_prior_without_stages_is_refused(manifest):
    """There is at least one stage of codes."""
    with pytest.raises(ManifestMalformed, match="stage"):
        changed(manifest, lambda values: values["prior"].update(stages=[]))


def test_the_digest_depends_on_every_number_and_on_no_order():
    """Names, shapes and values enter, in one order."""
    one, two = ("a", (2,), bytes(8)), ("b", (1, 1), b"\1\0\0\0")
    digest = prior_digest([one, two])
    assert digest == prior_digest([two, one])
    others = [
        [one, ("b", (1,), b"\1\0\0\0")],
        [one, ("b", (1, 1), b"\2\0\0\0")],
        [one, ("c", (1, 1), b"\1\0\0\0")],
    ]
    assert len({digest, *map(prior_digest, others)}) == 4


def test_impossible_tensors_have_no_digest():
    """Bytes that don't fit the shape, or one name twice, are a bug of the caller."""
    with pytest.raises(ValueError, match="int32"):
        prior_digest([("a", (3,), bytes(8))])
    with pytest.raises(ValueError, match="two tensors"):
        prior_digest([("a", (1,), bytes(4)), ("a", (1,), bytes(4))])
