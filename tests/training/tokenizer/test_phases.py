"""Facts about runs of several phases, each shown by really training a tiny model."""

import dataclasses

import pytest
import torch

from training.tokenizer.checkpoint import CheckpointError, load_checkpoint
from training.tokenizer.config import ConfigError, LossConfig, PhaseConfig
from training.tokenizer.config_file import from_dict, override
from training.tokenizer.distributed import DistributedContext
from training.tokenizer.run import TrainingInterrupted, train

CPU = DistributedContext(torch.device("cpu"))
FROZEN = ("encoder", "codebook")


@pytest.fixture(scope="module")
def phased(tiny):
    """Three phases of four steps: all, a wider crop on frozen codes, and a decoder for texture."""
    adversarial = LossConfig(mse=1.0, adversarial=0.5, adversarial_start=2, discriminator="patch")
    return dataclasses.replace(
        tiny,
        quantizer=dataclasses.replace(tiny.quantizer, residual_sizes=(8,)),
        data=dataclasses.replace(tiny.data, synthetic=0.2, colour_jitter=0.3),
        phases=(
            PhaseConfig("all", 4),
            PhaseConfig("wide", 4, crop=48, batch=4, freeze=FROZEN, loss=LossConfig(l1=1.0)),
            PhaseConfig("texture", 4, freeze=FROZEN, decoder="texture", loss=adversarial),
        ),
        run=dataclasses.replace(tiny.run, checkpoint_every=1000),
    )


def tensors(path):
    """All tensors of a checkpoint by name, of the discriminator and the optimizers, too."""
    found = {}

    def collect(prefix, value):
        if isinstance(value, torch.Tensor):
            found[prefix] = value
        elif isinstance(value, dict):
            for key, inner in value.items():
                collect(f"{prefix}.{key}", inner)

    values = torch.load(path, weights_only=True)
    for part in ("model", "averaged", "optimizer", "discriminator"):
        collect(part, values[part])
    return found


def stopped_after(config, steps, photos, out, monkeypatch):
    """A run that a signal stops after so many steps."""
    from training.tokenizer import run

    counted = []
    with monkeypatch.context() as patch:

        class Stopping:
            def __enter__(self):
                return lambda: counted.append(1) or len(counted) == steps

            def __exit__(self, *_):
                return None

        patch.setattr(run, "stop_signal", lambda *_: Stopping())
        with pytest.raises(TrainingInterrupted):
            train(config, [photos], out, CPU)


@pytest.fixture(scope="module")
def unbroken(phased, photos, tmp_path_factory):
    """The checkpoint of a run that nothing stopped."""
    return train(phased, [photos], tmp_path_factory.mktemp("unbroken"), CPU)


@pytest.mark.parametrize("steps", [2, 4, 6, 8, 9, 11])
def test_resuming_in_any_phase(phased, unbroken, steps, photos, tmp_path, monkeypatch):
    """Stopped inside a phase or between two, a run ends with the bits of an unbroken one."""
    stopped_after(phased, steps, photos, tmp_path, monkeypatch)
    assert load_checkpoint(tmp_path / "last.pt").step == steps
    wanted, made = tensors(unbroken), tensors(train(phased, [photos], tmp_path, CPU))
    assert made.keys() == wanted.keys()
    assert any(name.startswith("discriminator.") for name in wanted)
    assert all(torch.equal(made[name], wanted[name]) for name in wanted)


def test_frozen_parts_stay(phased, photos, unbroken, tmp_path, monkeypatch):
    """In phases that freeze encoder and codebook these keep their bits, and the decoder learns."""
    stopped_after(phased, 4, photos, tmp_path, monkeypatch)
    before, after = load_checkpoint(tmp_path / "last.pt"), load_checkpoint(unbroken)
    for name, value in before.averaged.items():
        same = torch.equal(value, after.averaged[name])
        if name.startswith(("encoder.", "quantizer.")):
            assert same, name
            assert torch.equal(value, after.model[name]), name
    assert not torch.equal(
        before.averaged["decoder.to_pixels.0.weight"], after.averaged["decoder.to_pixels.0.weight"]
    )


def test_another_decoder_begins_as_a_copy(phased, photos, tmp_path, monkeypatch):
    """The decoder for texture starts from the main one, which then stays as it is."""
    stopped_after(phased, 8, photos, tmp_path, monkeypatch)
    main = load_checkpoint(tmp_path / "last.pt").averaged
    end = load_checkpoint(train(phased, [photos], tmp_path, CPU)).averaged
    name = "to_pixels.0.weight"
    assert torch.equal(end[f"decoder.{name}"], main[f"decoder.{name}"])
    change = end[f"decoders.texture.{name}"] - main[f"decoder.{name}"]
    assert 0 < change.norm() < 0.5 * main[f"decoder.{name}"].norm()


def test_decoders_at(phased):
    """A decoder is there from the first step of the phase that trains it."""
    assert phased.steps == 12
    assert phased.decoders_at(8) == ("decoder",)
    assert phased.decoders_at(9) == ("decoder", "texture")


def test_a_phase_takes_the_rest_from_the_run(phased):
    """What a phase doesn't set is as in the other sections; what it sets is its own."""
    _, wide, _ = phased.resolved_phases()
    assert (wide.first, wide.last) == (4, 8)
    assert wide.config.data.crop == 48
    assert wide.config.data.synthetic == phased.data.synthetic
    assert wide.config.optimizer.learning_rate == phased.optimizer.learning_rate
    assert wide.config.optimizer.freeze == FROZEN
    assert wide.config.loss == LossConfig(l1=1.0)


def test_phases_survive_json(phased):
    """A configuration with phases is read back from what a checkpoint holds of it."""
    assert from_dict(phased.to_dict()) == phased


def test_a_phases_settings_are_overridden_by_its_name(phased):
    """`--set phases.wide.steps=9` changes that phase alone."""
    changed = override(phased, ["phases.wide.steps=9"])
    assert [phase.steps for phase in changed.phases] == [4, 9, 4]
    with pytest.raises(ConfigError, match=r"unknown setting phases\.other\.steps"):
        override(phased, ["phases.other.steps=9"])


@pytest.mark.parametrize(
    ("phases", "words"),
    [
        ([{"name": "a", "steps": 0}], "steps must be positive"),
        ([{"name": "a", "steps": 1}, {"name": "a", "steps": 1}], "same name"),
        ([{"name": "a", "steps": 1, "crop": 33}], "multiple of the stride"),
        ([{"name": "a", "steps": 1, "decoder": "t"}], "must freeze what both need"),
        ([{"name": "a", "steps": 1, "decoder": "T", "freeze": FROZEN}], "must match"),
        ([{"name": "a", "steps": 1, "freeze": ["encoder", "decoder"]}], "nothing to train"),
        ([{"name": "a", "steps": 1, "freeze": ["all"]}], "one of encoder, codebook, decoder"),
        (
            [{"name": "a", "steps": 1, "decoder": "t", "start_from": "u", "freeze": FROZEN}],
            "no phase before it has trained",
        ),
        (
            [
                {"name": "a", "steps": 1, "decoder": "t", "freeze": FROZEN},
                {"name": "b", "steps": 1},
            ],
            "must freeze encoder and codebook",
        ),
    ],
)
def test_impossible_phases(phases, words):
    """Each is refused in one line."""
    with pytest.raises(ConfigError, match=words) as caught:
        from_dict({"name": "x", "phases": phases})
    assert "\n" not in str(caught.value)


def test_a_later_phase_may_change_and_an_earlier_one_may_not(phased, photos, tmp_path, monkeypatch):
    """On resuming: what isn't over may become shorter, what is over is as it was."""
    stopped_after(phased, 5, photos, tmp_path, monkeypatch)
    with pytest.raises(CheckpointError, match="other settings"):
        train(override(phased, ["phases.all.steps=3"]), [photos], tmp_path, CPU)
    shorter = override(phased, ["phases.wide.steps=2", "phases.texture.steps=1"])
    assert load_checkpoint(train(shorter, [photos], tmp_path, CPU)).step == 7
