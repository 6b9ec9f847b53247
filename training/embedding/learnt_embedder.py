"""A learnt embedder: from a bundle and photographs to a graph that takes its embedder's place."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime
import torch
from rich.console import Console
from torch import Tensor

from bundle import Bundle, Manifest
from bundle import Tensor as TensorSpec
from training.embedding.contrastive import FeatureNetwork, PooledFeatures, Recipe, learn_features
from training.embedding.cooccurrence import cooccurrence_vectors
from training.embedding.embedder import Embedder, Whitening, fit_projection
from training.embedding.retrieval_benchmark import (
    encode_random_copies,
    held_out,
    prepare_benchmark,
    read_photographs,
)
from training.onnx_export.codec import BundleCodec, Codes
from training.onnx_export.graphs import GraphSignature, export_graph, run, session_of
from training.onnx_export.parity import check, prove_embedder
from training.onnx_export.replace_graph import replace_graph
from training.onnx_export.weight_only_int8 import rounded, store_as_int8
from training.tokenizer.progress import bar

# Numbers of a code's vector in the network's table.
_TABLE = 64


# Photographs are reduced to this short side, in codes: about the scale that copies show them at.
_SHORT_SIDE = 20


_PARITY_IMAGES = 24


@dataclass(frozen=True)
class LearntEmbedder:
    """An embedder ready to be written, and what is known of it.

    Attributes:
        embedder: as exported, its weights rounded to what the file holds.
        signature: of its graph.
        graph: the ONNX file.
        facts: how it was learnt, for the manifest.
        recall: for each edit, the share of held-out photographs found by their edited copy.
        searched: photographs that were searched.
        grids: codes of photographs, to prove the graph with.
    """

    embedder: Embedder
    signature: GraphSignature
    graph: bytes
    facts: dict[str, Any]
    recall: dict[str, float]
    searched: int
    grids: list[Codes]

    def embed(self, codes: Tensor) -> Tensor:
        """The graph: int64 `[n, rows, columns]` → float32 `[n, e]` of unit length."""
        return torch.from_numpy(run(self.session, codes.numpy()))

    @functools.cached_property
    def session(self) -> onnxruntime.InferenceSession:
        """The graph, loaded."""
        return session_of(self.graph)


def learn(
    bundle: Bundle,
    folders: list[Path],
    *,
    recipe: Recipe = Recipe(),  # noqa: B008  (immutable)
    copies: int = 16,
    cache: Path | None = None,
    console: Console | None = None,
) -> LearntEmbedder:
    """Encodes, trains, fits the projection, exports and measures; writes nothing but the cache.

    Args:
        bundle: whose codes are learnt from. Its int8 encoder, where it has one, makes the
            copies: near ties between codes are one more thing to overlook.
        folders: of photographs, searched at any depth.
        recipe: of network and training.
        copies: edited copies of each photograph.
        cache: folder to keep the codes of the copies in.
        console: to show progress on.

    Raises:
        BundleError: a file of the bundle changed meanwhile.
        DataError: no photographs, or too few.
    """
    console = console or Console(quiet=True)
    stride = bundle.manifest.stride
    paths, images = read_photographs(folders, _SHORT_SIDE * stride)
    wanted = held_out(paths)
    console.print(f"{len(images)} photographs, {len(wanted)} of them held out")
    benchmark = prepare_benchmark(BundleCodec(bundle), images, wanted)
    fast = "int8" if "int8" in bundle.precisions("encoder") else "fp32"
    others = [image for i, image in enumerate(images) if i not in set(wanted.tolist())]
    with bar(console, "edited copies", len(others)) as progress:
        views = encode_random_copies(
            BundleCodec(bundle, fast), others, copies,
            seed=recipe.seed, cache=cache, on_progress=progress,
        )  # fmt: skip
    started, losses = time.monotonic(), deque[float](maxlen=100)
    with bar(console, "learning", recipe.steps) as progress:

        def on_step(step: int, loss: float, found: float) -> None:
            losses.append(loss)
            progress(step)
            if step % 100 == 0:
                mean = sum(losses) / len(losses)
                console.print(f"step {step}  loss {mean:.3f}  found {found:.3f}", highlight=False)

        table = cooccurrence_vectors(benchmark.others, bundle.manifest.codebook_size, _TABLE)
        features = learn_features(table * table.shape[1] ** 0.5, views, recipe, on_step)
    embedder = prepare_for_export(features, benchmark.others)
    facts = {
        "recipe": dataclasses.asdict(recipe),
        "photographs": len(others),
        "copies": copies,
        "loss": round(sum(losses) / max(1, len(losses)), 4),
        "seconds": round(time.monotonic() - started, 1),
        "torch": torch.__version__,
    }
    signature = embedder_signature(stride, embedder.size)
    graph = store_as_int8(export_graph(embedder, signature, stride))
    every = max(1, len(images) // _PARITY_IMAGES)
    grids = list(benchmark.photographs[::every][:_PARITY_IMAGES])
    learnt = LearntEmbedder(embedder, signature, graph, facts, {}, len(images), grids)
    return dataclasses.replace(learnt, recall=benchmark.recall(learnt.embed))


def prepare_for_export(features: FeatureNetwork, grids: list[Codes]) -> Embedder:
    """Weights rounded to what the file holds, and the projection fitted to what comes of that."""
    with torch.no_grad():
        for weight in features.parameters():
            weight.copy_(rounded(weight))
    embedder = fit_projection(PooledFeatures(features), grids, Whitening())
    return Embedder(embedder.features, rounded(embedder.weight), embedder.bias).eval()


def embedder_signature(stride: int, size: int) -> GraphSignature:
    """Input and output of an embedder's graph (`bundle/FORMAT.md`)."""
    return GraphSignature(
        TensorSpec("codes", "int64", ("n", f"h/{stride}", f"w/{stride}")),
        TensorSpec("embedding", "float32", ("n", size)),
    )


def write(path: Path, learnt: LearntEmbedder, version: str, figures: Mapping[str, float]) -> Bundle:
    """Proves the graph and puts it in the place of a bundle's embedder; codes stay as they are.

    Figures of the embedder before, in the manifest's metrics, are dropped.

    Args:
        path: of the bundle's folder.
        learnt: the embedder.
        version: the bundle's new one, since its vectors are others.
        figures: of the recognition probe, if that was measured.

    Raises:
        ParityError: the graph is not what was trained; nothing was written.
        BundleError: the folder is not a sound bundle.
    """
    batches = [grid[None, : 1 + i % len(grid), i % 3 :] for i, grid in enumerate(learnt.grids)]
    batches = [codes.copy() for codes in batches if codes.size]
    batches += [grid[None] for grid in learnt.grids]
    proof = prove_embedder(learnt.embedder, learnt.session, batches)
    proof = dataclasses.replace(proof, images=len(learnt.grids))  # each whole, and cut
    check({"embedder": {"fp32": proof}})
    measured: dict[str, float] = {"photographs_searched": learnt.searched}
    measured |= {f"found: {edit}": round(share, 4) for edit, share in learnt.recall.items()}

    def renew(manifest: Manifest) -> Manifest:
        metrics = {
            name: {k: v for k, v in value.items() if not k.startswith("recognition_")}
            if isinstance(value, Mapping)
            else value
            for name, value in manifest.metrics.items()
        }
        return dataclasses.replace(
            manifest,
            version=version,
            embedding_size=learnt.embedder.size,
            training={**manifest.training, "embedder": learnt.facts},
            metrics={**metrics, "embedder": {**figures, **measured}},
        )

    return replace_graph(
        path, "embedder", learnt.signature.manifest({}), {"fp32": learnt.graph},
        {"fp32": proof.to_dict()}, renew,
    )  # fmt: skip
