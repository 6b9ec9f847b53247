"""Facts about networks, losses and the model as a whole."""

import dataclasses

import numpy as np
import pytest
import torch

from training.data.dataset import find_images, read_image
from training.tokenizer.config import DataConfig, LossConfig
from training.tokenizer.config_file import load_config, override
from training.tokenizer.losses import Losses, gradient_l1, multiscale_l1
from training.tokenizer.model import Tokenizer, to_float, to_samples
from training.tokenizer.networks.convolutional import Decoder, Encoder, decoder_reach, encoder_reach


@pytest.mark.parametrize("preset", ["tiny", "small-f4", "photo-f8", "photo-f16"])
def test_any_size(preset):
    """Any multiple of the stride goes through, and comes out with its size."""
    config = load_config(preset)
    model = Tokenizer(config).eval()
    stride = config.network.stride
    pixels = torch.randint(0, 256, (1, 2 * stride, 3 * stride, 3), dtype=torch.uint8)
    codes = model.encode(pixels)
    assert codes.shape == (1, 2, 3)
    assert model.decode(codes).shape == pixels.shape


@pytest.mark.parametrize("preset", ["tiny", "small-f4", "photo-f8", "photo-f16"])
def test_reach(preset):
    """Patches further away than the reach leave latents and pixels as they are; nearer ones don't.

    In float64, where one changed input shows in an output as long as any path leads there.
    """
    network = load_config(preset).network
    torch.manual_seed(0)
    for net, reach, unit_in, unit_out, channels in (
        (Encoder(network, 8), encoder_reach(network), network.stride, 1, 3),
        (Decoder(network, 8), decoder_reach(network), 1, network.stride, 8),
    ):
        for parameter in net.parameters():
            torch.nn.init.uniform_(parameter, 0, 0.05)  # all paths open: nothing cancels out
        side = 2 * reach + 5
        values = torch.rand(1, channels, unit_in, side * unit_in, dtype=torch.float64)
        changed = values.clone()
        changed[..., unit_in * (reach + 2) : unit_in * (reach + 3)] += 1
        with torch.no_grad():
            difference = (net.double()(changed) - net.double()(values)).abs().amax((0, 1, 2))
        moved = difference.reshape(side, unit_out).amax(1) > 0
        assert moved.nonzero().flatten().tolist() == list(range(2, 2 * reach + 3))


def test_stem_stride_2():
    """A stem that divides by 2 gives a decoder that multiplies by 2."""
    config = load_config("tiny")
    network = dataclasses.replace(config.network, stem_stride=2)
    model = Tokenizer(dataclasses.replace(config, network=network)).eval()
    assert model.decode(model.encode(torch.zeros(1, 8, 8, 3, dtype=torch.uint8))).shape[1] == 8


def test_pixels_round_trip():
    """Every uint8 value survives the way to [−1, 1] and back."""
    pixels = torch.arange(256, dtype=torch.uint8).repeat(3, 1).T.reshape(1, 16, 16, 3)
    assert torch.equal(to_samples(to_float(pixels)), pixels)
    assert to_float(pixels).aminmax() == (-1.0, 1.0)
    assert to_samples(torch.full((1, 3, 1, 1), 7.0)).max() == 255


def test_initial_decoder_has_no_checkerboard():
    """ICNR: before training, the four pixels of a cell are alike."""
    torch.manual_seed(0)
    model = Tokenizer(load_config("tiny"))
    with torch.no_grad():
        made = model.decoder(torch.randn(1, 4, 4, 4))
    assert torch.allclose(made[..., ::2, ::2], made[..., 1::2, ::2], atol=1e-6)


def test_loss_terms_are_weighted_sums(tiny):
    """The total is the sum of the logged terms times their weights; β is on the commitment."""
    torch.manual_seed(0)
    weights = LossConfig(mse=2.0, l1=0.5, multiscale=0.25, gradient=0.125, ms_ssim=0.1)
    config = dataclasses.replace(tiny, loss=weights, data=DataConfig(crop=64))
    pixels = torch.rand(2, 3, 64, 64) * 2 - 1
    total, terms = Losses(weights, config.quantizer)(Tokenizer(config)(pixels), pixels)
    wanted = sum(
        getattr(weights, name) * value
        for name, value in terms.items()
        if name in ("mse", "l1", "multiscale", "gradient", "ms_ssim")
    )
    wanted = wanted + config.quantizer.commitment * terms["commitment"]
    assert total.item() == pytest.approx(wanted.item(), rel=1e-5)
    assert set(terms) == {"mse", "l1", "multiscale", "gradient", "ms_ssim", "commitment"}


def test_detail_terms_are_zero_on_equal_images():
    """Equal images cost nothing, and a constant shift has no gradient error."""
    image = torch.rand(1, 3, 32, 32)
    assert multiscale_l1(image, image) == gradient_l1(image, image) == 0
    assert gradient_l1(image + 0.5, image) < 1e-6
    assert multiscale_l1(image + 0.5, image) == pytest.approx(0.5, abs=1e-5)


def test_lpips_option(tiny, tmp_path):
    """A TorchScript file with a perceptual network takes part in the loss where it is present."""

    class Distance(torch.nn.Module):
        def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            return (a - b).abs().flatten(1).mean(1)

    file = tmp_path / "lpips.pt"
    with pytest.warns(DeprecationWarning, match="jit"):
        torch.jit.script(Distance()).save(str(file))
    weights = LossConfig(lpips=0.5, lpips_weights=str(file))
    pixels = torch.rand(1, 3, 32, 32)
    with pytest.warns(DeprecationWarning, match="jit"):
        losses = Losses(weights, tiny.quantizer)
    _, terms = losses(Tokenizer(tiny)(pixels), pixels)
    assert terms["lpips"] > 0


@pytest.mark.parametrize(
    "kind", ["ema", "gradient", "simvq", "fsq", "lfq", "bsq", "product", "none"]
)
def test_eight_images_overfit(photos, tiny, kind):
    """A tiny model learns eight crops well: the loop of forward, loss and step is sound."""
    torch.manual_seed(0)
    config = override(tiny, [f"quantizer.kind={kind}"])
    images = [read_image(p)[:32, :32] for p in find_images([photos]).paths[:8]]
    pixels = to_float(torch.from_numpy(np.stack(images)))
    model, losses = Tokenizer(config), Losses(config.loss, config.quantizer)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    first = last = None
    for step in range(150):
        output = model(pixels, step)
        total, terms = losses(output, pixels)
        optimizer.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        last = terms["mse"].item()
        first = first or last
    assert last < 0.15 * first


def test_vqgans_networks_at_any_size(tiny):
    """Any multiple of the stride goes through; normalisation and attention see all of an image."""
    config = override(tiny, ["network.kind=vqgan", "network.widths=[8, 8, 16]", "network.groups=4"])
    assert config.network.stride == 4
    torch.manual_seed(0)
    model = Tokenizer(config).eval()
    pixels = torch.randint(0, 256, (1, 8, 20, 3), dtype=torch.uint8)
    codes = model.encode(pixels)
    assert codes.shape == (1, 2, 5)
    assert model.decode(codes).shape == pixels.shape
    with torch.no_grad():
        before = model.encoder(to_float(pixels))
        pixels[:, :, 0] = 255 - pixels[:, :, 0]
        after = model.encoder(to_float(pixels))
    assert (before != after).any(dim=1).all()


def test_vqgans_networks_learn(photos, tiny):
    """In 60 steps on four crops the error falls to a third."""
    config = override(
        tiny, ["network.kind=vqgan", "network.widths=[8, 16, 16]", "network.groups=4"]
    )
    torch.manual_seed(0)
    images = [read_image(p)[:32, :32] for p in find_images([photos]).paths[:4]]
    pixels = to_float(torch.from_numpy(np.stack(images)))
    model, losses = Tokenizer(config), Losses(config.loss, config.quantizer)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    errors = []
    for step in range(60):
        total, terms = losses(model(pixels, step), pixels)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        errors.append(terms["mse"].item())
    assert errors[-1] < errors[0] / 3
