"""Classifying with recognizers that are known by hand (tests/data/recognizing/make.py)."""

from __future__ import annotations

import base64
import dataclasses
import io
import re
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import pytest
import tritonclient.http as triton
from onnx import numpy_helper
from PIL import Image
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from app.api import model_schemas, schemas
from app.api.classification import main_region
from app.codecs.tess import MEDIA_TYPE as PACKED
from app.runtime.device import Device
from app.runtime.engine import Graphs
from app.runtime.sessions import GraphRefused
from app.runtime.warm_up import warm_up
from bundle import open_bundle, write_bundle
from bundle.manifest import CODEBOOK_FILE, REQUIRED_GRAPHS

NPY = "application/x-npy"
PNG = {"content-type": "image/png"}
COLOURS = ["black", "blue", "brown", "green", "grey", "white"]
BLUE = COLOURS.index("blue")


@pytest.fixture(scope="module")
def service(run_app, recognizing_bundle):
    """The service with the tiny model and its two recognizers, a client of it."""
    with run_app(models_dir=recognizing_bundle.parent) as client:
        yield client


@pytest.fixture(scope="module")
def code_space(recognizing_bundle):
    return open_bundle(recognizing_bundle).manifest.code_space


@pytest.fixture(scope="module")
def table(recognizing_bundle):
    """What `colours` looks up: float32 `[codes, classes]`."""
    graph = onnx.load(recognizing_bundle / "colours.onnx").graph
    return next(numpy_helper.to_array(t) for t in graph.initializer if t.name == "table")


@pytest.fixture(scope="module")
def blue(table):
    """The bluest code."""
    return int(np.argmax(table[:, BLUE]))


@pytest.fixture(scope="module")
def plain(table):
    """A code that is more blue than anything else, and yet not blue: no part of a blue region."""
    scores = np.where(table.argmax(axis=1) == BLUE, table[:, BLUE], np.inf)
    assert scores.min() < 0
    return int(np.argmin(scores))


def picture(width, height, seed=0):
    noise = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC))


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def npy(array):
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


def softmax(logits):
    scores = np.exp(logits - logits.max())
    return scores / scores.sum()


def classify(service, body, kind="image/png", **params):
    headers = {"content-type": kind}
    return service.post("/v1/classify", content=body, headers=headers, params=params)


def grids(code_space, *items):
    """A body of codes: a grid, or a grid and its true width and height."""
    data = []
    for item in items:
        grid, *size = item if isinstance(item, tuple) else (item,)
        data.append({"codes": np.asarray(grid).tolist()} | dict(zip(("width", "height"), size)))  # noqa: B905
    return {"code_space": code_space, "data": data}


def item_of(service, body, **params):
    """The one item of a body of codes."""
    answer = service.post("/v1/classify", json=body, params=params)
    assert answer.status_code == 200, answer.text
    (item,) = answer.json()["data"]
    return item


# --- what is answered ------------------------------------------------------------------------


def test_labels_are_the_softmax_of_the_graphs_scores(service, code_space, table):
    """Of all classes, best first, and together they are certain."""
    codes = np.random.default_rng(0).integers(0, 256, (5, 7))
    expected = softmax(table[codes].mean(axis=(0, 1)).astype(float))
    labels = item_of(service, grids(code_space, codes), k=6)["labels"]
    assert [label["label"] for label in labels] == [COLOURS[i] for i in np.argsort(-expected)]
    assert [label["probability"] for label in labels] == pytest.approx(
        sorted(expected, reverse=True), abs=2e-6
    )
    assert sum(label["probability"] for label in labels) == pytest.approx(1, abs=6e-6)


def test_the_answer_says_who_made_it(service, code_space):
    """Model, code space, and the first recognizer by name."""
    answer = classify(service, png(picture(16, 16)))
    body = answer.json()
    assert (body["model"], body["code_space"], body["recognizer"]) == (
        "tiny",
        code_space,
        "colours",
    )
    assert set(body) == {"model", "code_space", "recognizer", "data"}
    assert set(body["data"][0]) == {"index", "labels"}


def test_an_image_and_its_codes_have_the_same_labels_however_they_come(service):
    """Raw, form, base64, array; JSON, packed and npy codes."""
    pixels = picture(48, 40)
    file = png(pixels)
    ask = {"params": {"map": "true"}}
    answers = [
        classify(service, file, map="true"),
        classify(service, file, "application/octet-stream", map="true"),
        service.post("/v1/classify", files={"image": ("a.png", file)}, **ask),
        service.post("/v1/classify", json={"images": [base64.b64encode(file).decode()]}, **ask),
        classify(service, npy(pixels), NPY, map="true"),
    ]
    for form in ("application/json", PACKED, NPY):
        codes = service.post("/v1/encode", content=file, headers=PNG | {"accept": form}).content
        answers.append(classify(service, codes, form, map="true", model="tiny"))
    found = [answer.json()["data"][0] for answer in answers]
    assert found[2].pop("name") == "a.png"
    assert all(item == found[0] for item in found)


@pytest.mark.parametrize(("k", "given"), [(None, 5), (1, 1), (3, 3), (6, 6), (1000, 6)])
def test_k_says_how_many_labels(service, k, given):
    """Five where it isn't said; never more than there are classes."""
    params = {} if k is None else {"k": k}
    item = classify(service, png(picture(16, 16)), **params).json()["data"][0]
    assert len(item["labels"]) == given


def test_one_of_several_recognizers_is_named(service, photos):
    """Its classes are answered."""
    file = (photos / "otter.webp").read_bytes()
    body = classify(service, file, recognizer="tones").json()
    assert body["recognizer"] == "tones"
    assert {label["label"] for label in body["data"][0]["labels"]} == {"dark", "light"}


def test_images_can_be_resized_on_the_way(service, photos):
    """The map is of the resized picture's grid."""
    file = (photos / "otter.webp").read_bytes()
    item = classify(service, file, size="64x32", map="true").json()["data"][0]
    assert np.shape(item["map"]) == (4, 8)
    assert item["box"][2] <= 64
    assert item["box"][3] <= 32


# --- the map and its box -----------------------------------------------------------------------


def test_the_map_is_of_the_first_label_from_0_to_1(service, code_space, table):
    """What speaks against it counts as nothing, the highest as 1; rows and columns of the grid."""
    codes = np.random.default_rng(3).integers(0, 256, (6, 9))
    item = item_of(service, grids(code_space, codes), map="true")
    best = COLOURS.index(item["labels"][0]["label"])
    activation = np.maximum(table[codes][..., best], 0)
    assert np.allclose(item["map"], activation / activation.max(), atol=1e-4)
    assert np.max(item["map"]) == 1


def test_the_box_is_around_the_main_region(service, code_space, blue, plain):
    """In pixels; a smaller region of the same label, which isn't connected, is left out."""
    codes = np.full((8, 10), plain)
    codes[1:5, 1:5] = blue
    codes[1, 1] = plain  # a corner of the region that doesn't narrow its box
    codes[6:8, 7:10] = blue  # by itself
    item = item_of(service, grids(code_space, codes), map="true")
    assert item["labels"][0]["label"] == "blue"
    assert item["box"] == [8, 8, 40, 40]


def test_regions_that_meet_at_a_corner_are_two(service, code_space, blue, plain):
    """Neighbours share a side."""
    codes = np.full((4, 4), plain)
    codes[0:2, 0:2] = codes[2:4, 2:4] = blue
    assert item_of(service, grids(code_space, codes), map="true")["box"] == [0, 0, 16, 16]


def test_a_region_may_wind(service, code_space, blue, plain):
    """Arms that meet only at the far end are one; its box holds another region's cells too."""
    codes = np.full((7, 9), plain)
    codes[0, 0:7] = codes[0:6, 0] = codes[0:6, 6] = codes[5, 2:7] = blue
    codes[2:4, 2:5] = blue  # an island between the arms
    assert item_of(service, grids(code_space, codes), map="true")["box"] == [0, 0, 56, 48]


def test_the_main_region_holds_most_of_the_activation(service, code_space, table, blue, plain):
    """A single highest cell doesn't outweigh many that are nearly as high."""
    half = table[blue, BLUE] / 2
    nearly = int(
        np.argmin(
            np.where((table.argmax(axis=1) == BLUE) & (table[:, BLUE] > half), table[:, BLUE], 99)
        )
    )
    codes = np.full((6, 8), plain)
    codes[0, 0] = blue
    codes[3:5, 4:8] = nearly
    assert item_of(service, grids(code_space, codes), map="true")["box"] == [32, 24, 64, 40]


def test_without_a_region_the_box_is_the_picture(service, code_space, plain):
    """Where nothing speaks for the label, nothing is marked and nothing is left out."""
    item = item_of(service, grids(code_space, (np.full((2, 3), plain), 20, 16)), map="true")
    assert item["map"] == [[0.0] * 3] * 2
    assert item["box"] == [0, 0, 20, 16]


def test_the_box_ends_where_the_picture_does(service, code_space, blue):
    """The last codes of a picture of 21 × 13 pixels stand for less than their patches."""
    item = item_of(service, grids(code_space, (np.full((2, 3), blue), 21, 13)), map="true")
    assert item["box"] == [0, 0, 21, 13]
    sizeless = item_of(service, grids(code_space, np.full((2, 3), blue)), map="true")
    assert sizeless["box"] == [0, 0, 24, 16]


def regions(inside):
    """Every region of cells that share a side, found by walking from cell to cell."""
    left = {(int(row), int(column)) for row, column in np.argwhere(inside)}
    while left:
        region, waiting = [], [left.pop()]
        while waiting:
            row, column = waiting.pop()
            region.append((row, column))
            around = {(row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)}
            waiting += around & left
            left -= around
        yield region


def test_the_main_region_is_the_one_that_a_walk_finds():
    """On maps in which regions wind, fork and meet."""
    random = np.random.default_rng(0)
    for _ in range(200):
        scaled = random.random(random.integers(1, 13, 2)) ** random.uniform(0.3, 2)
        found = regions(scaled >= 0.5 * scaled.max())
        best = np.array(max(found, key=lambda region: sum(scaled[cell] for cell in region)))
        (top, left), (bottom, right) = best.min(axis=0), best.max(axis=0) + 1
        assert main_region(scaled) == (left, top, right, bottom)


@pytest.mark.parametrize("size", [(1, 1), (21, 13), (50, 33), (64, 64), (7, 90)])
def test_the_box_lies_in_the_picture(service, size):
    """Whatever its size, from the image and from its codes."""
    for seed in range(6):
        file = png(picture(*size, seed=seed))
        packed = service.post("/v1/encode", content=file, headers=PNG | {"accept": PACKED}).content
        of_image = classify(service, file, map="true").json()["data"][0]
        of_codes = classify(service, packed, PACKED, map="true").json()["data"][0]
        assert of_image["box"] == of_codes["box"]
        left, top, right, bottom = of_image["box"]
        assert 0 <= left < right <= size[0]
        assert 0 <= top < bottom <= size[1]


def test_a_map_must_exist_to_be_asked_for(service):
    """A recognizer without one says so."""
    answer = classify(service, png(picture(16, 16)), recognizer="tones", map="true")
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_parameter")
    assert "no activation maps" in answer.json()["detail"]


# --- several items -----------------------------------------------------------------------------


def test_alone_and_together_are_the_same(service):
    """Eight in one request, eight at once, and each by itself."""
    files = [png(picture(48, 48, seed)) for seed in range(8)]
    alone = [classify(service, f, map="true", k=6).json()["data"][0] for f in files]
    images = {"images": [base64.b64encode(f).decode() for f in files]}
    one = service.post("/v1/classify", json=images, params={"map": "true", "k": 6}).json()["data"]
    with ThreadPoolExecutor(8) as pool:
        at_once = list(pool.map(lambda f: classify(service, f, map="true", k=6).json(), files))
    for item, expected in zip(one, alone, strict=True):
        assert {**item, "index": 0} == expected
    assert [body["data"][0] for body in at_once] == alone


def test_a_broken_image_fails_alone(service):
    """200, with an error in the item; its neighbours have their labels."""
    good = base64.b64encode(png(picture(16, 16))).decode()
    answer = service.post("/v1/classify", json={"images": [good, "!", good]})
    data = answer.json()["data"]
    assert answer.status_code == 200
    assert [item.get("error", {}).get("code") for item in data] == [
        *(None, "malformed_request", None)
    ]
    assert data[0]["labels"] == data[2]["labels"]


def test_broken_codes_fail_alone(service, code_space, blue):
    """Out of range, ragged; an item that encoding failed on is skipped."""
    body = grids(code_space, [[blue]], [[999]], [[blue]])
    body["data"][1:1] = [{"error": {"code": "image_corrupt"}}, {"codes": [[1], [2, 3]]}]
    data = service.post("/v1/classify", json=body).json()["data"]
    assert [(item["index"], "error" in item) for item in data] == [
        *((0, False), (2, True), (3, True), (4, False))
    ]
    assert {item["error"]["code"] for item in data if "error" in item} == {"codes_invalid"}


def test_if_all_fail_the_first_fault_is_the_status(service):
    """Nothing was done, so it isn't a success."""
    answer = service.post("/v1/classify", json={"images": ["!", "?"]})
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_request")


def test_answers_are_as_their_schema_says(service):
    """No field that isn't declared, and none of another type."""
    good = base64.b64encode(png(picture(20, 20))).decode()
    for params in ({}, {"map": "true"}, {"recognizer": "tones"}):
        answer = service.post("/v1/classify", json={"images": [good, "!"]}, params=params)
        schemas.Classified.model_validate(answer.json(), strict=True)


# --- refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "status", "code"),
    [
        ({"recognizer": "absent"}, 404, "recognizer_not_found"),
        ({"model": "absent"}, 404, "model_not_found"),
        ({"k": 0}, 422, "invalid_parameter"),
        ({"k": 1001}, 422, "invalid_parameter"),
        ({"map": "perhaps"}, 422, "invalid_parameter"),
        ({"size": "9"}, 422, "invalid_parameter"),
    ],
)
def test_what_cannot_be_asked(service, params, status, code):
    """Each with the status and code of the table."""
    answer = classify(service, png(picture(16, 16)), **params)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_an_unknown_recognizer_is_told_which_there_are(service):
    """By name."""
    answer = classify(service, png(picture(16, 16)), recognizer="absent")
    assert "colours, tones" in answer.json()["detail"]


def test_only_json_is_answered(service):
    """Else 406."""
    answer = service.post("/v1/classify", content=png(picture(8, 8)), headers=PNG | {"accept": NPY})
    assert (answer.status_code, answer.json()["code"]) == (406, "not_acceptable")


def test_codes_of_another_space_are_refused(service):
    """They would be nonsense here."""
    answer = service.post("/v1/classify", json=grids("0" * 64, [[1]]))
    assert (answer.status_code, answer.json()["code"]) == (409, "code_space_mismatch")


def test_codes_of_an_older_version_are_labelled_under_the_bare_name(
    run_app, recognizing_bundle, code_space, blue, tmp_path
):
    """Even where the newest version has another code space, and no recognizer."""
    shutil.copytree(recognizing_bundle, tmp_path / "old")
    old = open_bundle(recognizing_bundle)
    graphs = {name: old.manifest.graphs[name] for name in REQUIRED_GRAPHS}
    manifest = dataclasses.replace(
        old.manifest,
        version="3",
        code_space="ab" * 32,
        recognizers={},
        graphs=graphs,
        prior=None,
    )
    theirs = {file for graph in graphs.values() for file in graph.files.values()}
    files = {name: old.read(name) for name in theirs | {CODEBOOK_FILE}}
    write_bundle(tmp_path / "new", manifest, files)
    with run_app(models_dir=tmp_path) as client:
        body = grids(code_space, [[blue]])
        for params in ({}, {"model": "tiny"}, {"model": "tiny@2"}):
            item = item_of(client, body, **params)
            assert item["labels"][0]["label"] == "blue"


def test_an_array_of_codes_must_name_its_model(service):
    """It doesn't say whose codes it holds."""
    codes = npy(np.zeros((1, 2, 2), np.int32))
    assert classify(service, codes, NPY).json()["code"] == "malformed_request"
    assert classify(service, codes, NPY, model="tiny").status_code == 200


def test_a_model_without_a_recognizer_says_how_to_get_one(client, code_space):
    """404 with the command, from images, named or not, and from codes."""
    for answer in (
        classify(client, png(picture(16, 16))),
        classify(client, png(picture(16, 16)), model="tiny"),
        client.post("/v1/classify", json=grids(code_space, [[1]])),
    ):
        assert (answer.status_code, answer.json()["code"]) == (404, "recognizer_not_found")
        assert "python -m training.recognize" in answer.json()["detail"]


# --- around it ---------------------------------------------------------------------------------


def test_models_list_their_recognizers(service):
    """Classes, licence, metrics, and whether there is a map."""
    facts = service.get("/v1/models/tiny").json()
    assert list(facts["recognizers"]) == ["colours", "tones"]
    assert facts["recognizers"]["colours"]["classes"] == COLOURS
    assert set(facts["recognizers"]["tones"]) == {"classes", "licence", "metrics", "map"}
    assert [one["map"] for one in facts["recognizers"].values()] == [True, False]
    model_schemas.ModelFacts.model_validate(facts, strict=True)
    assert service.get("/v1/models").json()["data"] == [facts]


def test_a_recognizer_does_not_change_the_code_space(service, client):
    """Codes of the bundle without one are classified by the bundle with it."""
    file = png(picture(40, 24))
    codes = client.post("/v1/encode", content=file, headers=PNG | {"accept": PACKED}).content
    of_codes = classify(service, codes, PACKED).json()["data"]
    assert of_codes == classify(service, file).json()["data"]


def test_requests_are_timed_and_counted(service, code_space, blue):
    """By stage in the answer, by route in the metrics."""

    def counted():
        text = service.get("/metrics").text
        name = r'tessera_requests_total\{route="/v1/classify",status="200"\} ([\d.]+)'
        done = re.search(name, text)
        return float(done[1]) if done else 0.0

    before = counted()
    body = grids(code_space, [[blue]], [[blue, blue]])
    answer = service.post("/v1/classify", json=body)
    timing = answer.headers["server-timing"]
    assert float(re.search(r"infer;dur=([\d.]+)", timing)[1]) > 0
    assert counted() == before + 1


# --- in the Open Inference Protocol ------------------------------------------------------------


@pytest.fixture(scope="module")
def official(service):
    """Triton's own client."""
    address = f"{service.base_url.host}:{service.base_url.port}"
    with triton.InferenceServerClient(address) as official:
        yield official


def given(name, array):
    tensor = triton.InferInput(name, array.shape, np_to_triton_dtype(array.dtype))
    tensor.set_data_from_numpy(array)
    return tensor


def test_each_recognizer_is_four_models_of_the_protocol(official):
    """Its graph as it is, and pixels, files or codes to probabilities; all are described."""
    listed = {entry["name"] for entry in official.get_model_repository_index()}
    kinds = ("recognizer", "classify", "classify_image", "classify_codes")
    assert {f"tiny.{kind}.{r}" for kind in kinds for r in ("colours", "tones")} < listed
    assert all(official.is_model_ready(name) for name in listed)
    graph = official.get_model_metadata("tiny.recognizer.colours")
    assert [(port["name"], port["shape"]) for port in graph["outputs"]] == [
        ("logits", [-1, 6]),
        ("map", [-1, 6, -1, -1]),
    ]
    composed = official.get_model_metadata("tiny.classify.tones", "2")
    assert [port["name"] for port in composed["inputs"]] == ["pixels"]
    assert composed["outputs"] == [{"name": "probabilities", "datatype": "FP32", "shape": [-1, 2]}]


def test_images_and_codes_have_the_probabilities_of_the_other_endpoint(service, official):
    """By name, or the first without; in the order of the manifest's classes."""
    pixels = picture(40, 24)
    codes = service.post("/v1/encode", content=png(pixels), headers=PNG).json()["data"][0]["codes"]
    labels = classify(service, png(pixels), k=6).json()["data"][0]["labels"]
    expected = {label["label"]: label["probability"] for label in labels}
    for tensor in (
        given("image", np.array([png(pixels)] * 2, object)),
        given("pixels", np.stack([pixels] * 2)),
        given("codes", np.array([codes] * 2)),
    ):
        for name in ("tiny.classify", "tiny.classify.colours"):
            found = official.infer(name, [tensor]).as_numpy("probabilities")
            assert found.shape == (2, 6)
            assert found[0] == pytest.approx([expected[c] for c in COLOURS], abs=2e-6)


def test_a_recognizers_graph_runs_as_it_is(official, table):
    """Codes to scores and maps; without a map, to scores alone."""
    codes = np.random.default_rng(1).integers(0, 256, (3, 4, 5))
    answer = official.infer("tiny.recognizer.colours", [given("codes", codes)])
    assert np.array_equal(answer.as_numpy("map"), table[codes].transpose(0, 3, 1, 2))
    assert answer.as_numpy("logits") == pytest.approx(table[codes].mean(axis=(1, 2)), abs=1e-5)
    tones = official.infer("tiny.recognizer.tones", [given("codes", codes)])
    assert tones.as_numpy("logits").shape == (3, 2)
    assert tones.as_numpy("map") is None


def test_the_protocol_refuses_recognizers_that_are_not_there(official, client):
    """404 in its own shape."""
    assert not official.is_model_ready("tiny.classify.absent")
    with pytest.raises(InferenceServerException, match=r"recognizer_not_found: .*colours, tones"):
        official.get_model_metadata("tiny.classify.absent")
    answer = client.get("/v2/models/tiny.classify")
    assert (answer.status_code, list(answer.json())) == (404, ["error"])


# --- what a bundle may hold --------------------------------------------------------------------


def changed(path, folder, *, classes=None, graph=None):
    """A copy of a bundle whose `colours` has other classes, or whose graph's file is another."""
    bundle = open_bundle(path)
    recognizers = dict(bundle.manifest.recognizers)
    if classes is not None:
        recognizers["colours"] = dataclasses.replace(recognizers["colours"], classes=classes)
    files = {file: bundle.read(file) for file in bundle.manifest.files}
    if graph is not None:
        files["colours.onnx"] = graph
    manifest = dataclasses.replace(bundle.manifest, recognizers=recognizers)
    return write_bundle(folder / "tiny", manifest, files)


def edited(path, edit):
    """The graph `colours`, changed by `edit`."""
    model = onnx.load(path / "colours.onnx")
    edit(model.graph)
    return model.SerializeToString()


def test_a_recognizer_must_score_each_of_its_classes(recognizing_bundle, tmp_path):
    """Found at the start, not at the first request."""
    bundle = changed(recognizing_bundle, tmp_path, classes=("one", "two"))
    with pytest.raises(GraphRefused, match="'colours' doesn't give one score for each"):
        warm_up(Graphs(bundle, Device("cpu", 0, 1), "fp32"))


def test_a_map_must_be_of_the_code_grid(recognizing_bundle, tmp_path):
    """One that is cut is refused at the start."""

    def cut(graph):
        graph.node[1].output[0] = "uncut"
        graph.node[2].input[0] = "uncut"
        one = numpy_helper.from_array(np.array([1], np.int64), "one")
        end = numpy_helper.from_array(np.array([2**31], np.int64), "end")
        axis = numpy_helper.from_array(np.array([2], np.int64), "axis")
        graph.initializer.extend([one, end, axis])
        graph.node.append(onnx.helper.make_node("Slice", ["uncut", "one", "end", "axis"], ["map"]))

    bundle = changed(recognizing_bundle, tmp_path, graph=edited(recognizing_bundle, cut))
    with pytest.raises(GraphRefused, match="'colours' doesn't give one map of the code grid"):
        warm_up(Graphs(bundle, Device("cpu", 0, 1), "fp32"))


def test_scores_that_are_not_finite_fail_their_item_alone(
    recognizing_bundle, tmp_path, run_app, code_space, blue
):
    """500 in the item; its neighbour is answered."""

    def poison(graph):
        # Divided by the number of columns less three.
        graph.node[2].output[0] = "mean"
        two, three = (numpy_helper.from_array(np.int64(n), str(n)) for n in (2, 3))
        graph.initializer.extend([two, three])
        make = onnx.helper.make_node
        graph.node.extend(
            [
                make("Shape", ["codes"], ["shape"]),
                make("Gather", ["shape", "2"], ["columns"]),
                make("Sub", ["columns", "3"], ["less"]),
                make("Cast", ["less"], ["divisor"], to=onnx.TensorProto.FLOAT),
                make("Div", ["mean", "divisor"], ["logits"]),
            ]
        )

    changed(recognizing_bundle, tmp_path, graph=edited(recognizing_bundle, poison))
    with run_app(models_dir=tmp_path) as service:
        body = grids(code_space, [[blue] * 3], [[blue] * 4])
        data = service.post("/v1/classify", json=body).json()["data"]
    assert data[0]["error"]["code"] == "internal"
    assert data[1]["labels"][0]["label"] == "blue"
