"""What goes into a bundle besides the model: version, code, data and the figures measured."""

from __future__ import annotations

import json
import subprocess
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bundle.manifest import NAME
from training.data.dataset import DataError


def stated_version(text: str) -> str:
    """The version that was asked for, before the hours after which a manifest would refuse it.

    Raises:
        DataError: no manifest may hold it.
    """
    if not NAME.fullmatch(text):
        raise DataError(f"--version must match {NAME.pattern}, and {text!r} doesn't")
    return text


def read_data_description(path: Path) -> tuple[Mapping[str, Any], ...]:
    """What a model was trained on: a TOML file of `[[data]]` tables with `name` and `licence`.

    Raises:
        DataError: the file can't be read, or a table lacks one of the two.
    """
    try:
        entries = tomllib.loads(path.read_text(encoding="utf-8")).get("data", [])
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DataError(f"{path} can't be read: {error}") from error
    for entry in entries:
        if not all(isinstance(entry.get(key), str) for key in ("name", "licence")):
            raise DataError(f"{path}: every [[data]] needs a name and a licence")
    return tuple(entries)


def read_metrics(argument: str) -> tuple[str, Mapping[str, Any]]:
    """An evaluation's main figures from `NAME=FILE`, for manifest and card.

    Raises:
        DataError: no such file, or not one that `training.evaluate` wrote.
    """
    name, _, file = argument.partition("=")
    try:
        values = json.loads(Path(file).read_bytes())
        figures = {
            "runtime": values["runtime"],
            "images": values["images"],
            "bits_per_pixel": values["bits_per_pixel"],
            "bits_per_pixel_of_own_histogram": values["bits_per_pixel_own_histogram"],
            **{key: value for key, value in values["quality"].items() if value is not None},
            "codes_used": values["usage"]["used"],
            "perplexity": values["usage"]["perplexity"],
        }
        main = values["variants"][0]
        figures |= {k: v for k, v in (main["synthetic"] or {}).items() if k != "pure"}
        for variant in values["variants"][1:]:
            name_of_variant = f"{variant['decoder']}_{variant['stages']}"
            figures[f"{name_of_variant}_bits_per_pixel"] = variant["bits_per_pixel"]
            for key, value in variant["quality"].items():
                if value is not None:
                    figures[f"{name_of_variant}_{key}"] = value
        for baseline in values["baselines"]:
            if baseline["stages"] != main["stages"]:
                continue
            figures[f"{baseline['codec'].lower()}_psnr_at_equal_bytes"] = baseline["quality"][
                "psnr"
            ]
        for row in values["probe"][:1]:  # the embedding; the others are what it is compared with
            figures["recognition_linear"] = row["linear"]
            figures["recognition_5_nearest"] = row["nearest"]
        for judgement in values["judgements"]:
            judge, classes = judgement["judge"], judgement["classes"]
            if judgement["used_in_training"]:
                judge += " (used in training)"
            for row in judgement["rows"]:
                if row["source"] in {v["name"] for v in values["variants"]} | {"originals"}:
                    figures[f"{row['source']} recognised by {judge}"] = row["top1"]
                    of_classes = f"{row['source']} recognised by {judge} of {classes} classes"
                    figures[of_classes] = row["top1_of_classes"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"--metrics takes NAME=FILE, a metrics.json: {argument!r}") from error
    return name, {k: round(v, 4) if isinstance(v, float) else v for k, v in figures.items()}


def git_commit() -> str:
    """Of the code that runs; `unknown` where it is no checkout or there is no git."""
    try:
        answer = subprocess.run(
            ["git", "rev-parse", "HEAD"],  # noqa: S607  (whichever git the user runs)
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return answer.stdout.strip()
