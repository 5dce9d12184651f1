"""The networks that test whether sets transfer: shapes, sizes, gradients, initial weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from winnow import registry
from winnow.errors import UserError
from winnow.models.engine import planes
from winnow.models.engine.blocks import InstanceNorm, feature_width, plain_stages

SMALL: dict[str, dict[str, Any]] = {
    "vgg": {"width": 4},
    "vit": {"depth": 2, "width": 12},
    "mlp": {"width": 16},
}


def build(name: str, channels: int, size: int, **params: Any) -> nn.Module:
    plugin = registry.load("models", name, "test")
    network: nn.Module = plugin.function(plugin.params(**(SMALL[name] | params)), channels, size)
    return network


def images(n: int, channels: int, size: int) -> Tensor:
    return torch.randn(n, channels, size, size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("name", "size", "width"),
    [
        ("vgg", 28, 32),
        ("vgg", 32, 32),
        ("vgg", 64, 32 * 4),
        ("vit", 8, 12),
        ("vit", 28, 12),
        ("vit", 32, 12),
        ("mlp", 8, 16),
        ("mlp", 28, 16),
        ("mlp", 32, 16),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_features_are_as_wide_as_documented(name: str, channels: int, size: int, width: int) -> None:
    network = build(name, channels, size)
    assert feature_width(network, channels, size) == width
    assert network(images(2, channels, size)).shape == (2, width)


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [("vgg", 8, "at least 28 pixels, not 8"), ("vgg", 27, "not 27"), ("vit", 30, "multiple of its pixels")],
)
def test_images_that_do_not_fit_are_refused(name: str, size: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(name, 3, size)


def test_heads_have_to_divide_the_width() -> None:
    with pytest.raises(ValidationError, match="divisors of the width 12"):
        build("vit", 3, 8, heads=5)


@pytest.mark.parametrize("params", [{"norm": "instance"}, {"norm": "batch"}])
def test_vgg_has_the_layers_of_configuration_a(params: dict[str, str]) -> None:
    network = build("vgg", 3, 32, width=64, **params)
    kinds = [nn.Conv2d, nn.BatchNorm2d if params["norm"] == "batch" else InstanceNorm, nn.ReLU]
    wanted = [64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"]
    layers = iter(network)  # type: ignore[call-overload]
    for each in wanted:
        if each == "M":
            assert isinstance(next(layers), nn.MaxPool2d)
            continue
        convolution, norm, relu = (next(layers) for _ in range(3))
        assert [type(convolution), type(norm), type(relu)] == kinds
        assert convolution.out_channels == each
    assert isinstance(next(layers), nn.Flatten)
    assert not any(True for _ in network.buffers()) or params["norm"] == "batch"


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("name", "size"), [("vgg", 32), ("vgg", 28), ("vit", 8), ("mlp", 8)])
def test_the_gradient_reaches_every_parameter(name: str, size: int, channels: int) -> None:
    network = build(name, channels, size)
    network(images(6, channels, size)).square().sum().backward()
    for part, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), part
        # Biases before a norm, and those of keys, have none by nature.
        assert parameter.ndim == 1 or bool(parameter.grad.any()), part


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", SMALL)
def test_initial_weights_are_the_seed_s(name: str, channels: int) -> None:
    def weights(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return torch.cat([p.detach().flatten() for p in build(name, channels, 32).parameters()])

    first = weights(3)
    assert torch.equal(weights(3), first)
    assert not torch.equal(weights(4), first)


def test_a_grey_stem_starts_like_a_coloured_one() -> None:
    torch.manual_seed(0)
    grey, coloured = (build("vit", channels, 32, width=192).conv_proj for channels in (1, 3))
    for stem, inputs in ((grey, 16), (coloured, 48)):
        assert isinstance(stem, nn.Conv2d) and stem.bias is not None
        assert float(stem.weight.std().detach()) == pytest.approx(inputs**-0.5, rel=0.1)
        assert not stem.bias.any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_instance_norm_is_group_norm_with_a_group_for_each_channel(
    dtype: torch.dtype, layout: torch.memory_format
) -> None:
    ours, plain = InstanceNorm(5), nn.GroupNorm(5, 5)
    with torch.no_grad():
        ours.weight.copy_(torch.arange(1.0, 6.0))
        ours.bias.copy_(torch.arange(5.0))
    plain.load_state_dict(ours.state_dict())
    found = []
    for norm in (ours, plain):
        x = images(3, 5, 8).to(dtype, memory_format=layout).requires_grad_()
        seen = norm.to(dtype)(x)
        assert seen.is_contiguous(memory_format=layout)
        seen.float().square().sum().backward()
        found.append([x.grad, norm.weight.grad, norm.bias.grad])
    for own, theirs in zip(*found, strict=True):
        assert own is not None and theirs is not None
        torch.testing.assert_close(own, theirs)


def derivatives(network: nn.Module, x: torch.Tensor, dtype: torch.dtype) -> list[torch.Tensor]:
    """Return a loss, its gradient, twice, that which is kept to be derived, and the gradient of its norm."""
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        loss = network(x).float().square().mean()
    leaves = (x, *network.parameters())
    plain = torch.autograd.grad(loss, leaves, retain_graph=True)
    again = torch.autograd.grad(loss, leaves, retain_graph=True)
    kept = torch.autograd.grad(loss, leaves, create_graph=True)
    norm = torch.stack([part.float().square().sum() for part in kept]).sum()
    second = torch.autograd.grad(norm, leaves)
    return [
        loss.detach()[None],
        *(torch.cat([p.detach().float().flatten() for p in g]) for g in (plain, again, kept, second)),
    ]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 0.06)])
@pytest.mark.parametrize("size", [16, 14])
def test_a_convnet_by_loops_has_the_derivatives_of_its_layers(
    size: int, dtype: torch.dtype, tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(1)
    network: nn.Module = plain_stages(3, size, widths=[8, 8], norm="instance")
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    x = images(16, 3, size).contiguous(memory_format=torch.channels_last).requires_grad_()
    monkeypatch.setattr(planes, "suits", lambda _: False)
    exact, layers = derivatives(network, x, torch.float32), derivatives(network, x, dtype)
    monkeypatch.undo()
    monkeypatch.setattr(planes, "WORTH_COMPILING", 1)
    loops = derivatives(network, x, dtype)
    assert not torch.equal(loops[1], layers[1]), "both went the same way"
    for ours, right in zip(loops, exact, strict=True):
        assert float((ours - right).norm() / right.norm()) < tolerance


@pytest.mark.parametrize("size", [16, 15])
def test_loops_of_halves_give_the_bits_that_rounding_afterwards_gives(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planes, "WORTH_COMPILING", 1)
    torch.manual_seed(2)
    last = torch.channels_last
    z = torch.randn(5, 6, size, size).bfloat16().contiguous(memory_format=last).requires_grad_()
    scale, shift = (torch.randn(6, requires_grad=True) for _ in range(2))
    g = torch.randn(5, 6, size // 2, size // 2).bfloat16().contiguous(memory_format=last)
    kept = z.detach().clone()
    ours = planes.pooled_by_loops(z, scale, shift)
    found = [ours.detach(), *torch.autograd.grad(ours, (z, scale, shift), g)]
    pooled, about = planes.forward(z.detach().float(), scale, shift)
    gz, gscale, gshift = planes.backward(about, scale, shift, g.float())
    for mine, other in zip(found, (pooled.bfloat16(), gz.bfloat16(), gscale, gshift), strict=True):
        assert mine.dtype == other.dtype and torch.equal(mine, other)
    assert torch.equal(z.detach(), kept), "what the graph keeps is not written over"


def test_blocks_of_a_convnet_may_grow_and_artefacts_without_that_keep_their_names() -> None:
    model = registry.load("models", "convnet", "")
    params = model.params.model_validate({"depth": 4, "width": 4, "norm": "batch", "growth": 2})
    network = model.function(params, 3, 64)
    widths = [layer.out_channels for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    assert widths == [4, 8, 16, 32] and feature_width(network, 3, 64) == 32 * 4 * 4
    assert params.model_dump()["growth"] == 2 and "growth" not in model.params().model_dump()


def test_loops_are_for_large_images_on_a_processor_with_channels_last() -> None:
    large = torch.empty(2**7, 2**5, 8, 8).contiguous(memory_format=torch.channels_last)
    assert planes.suits(large) and planes.suits(large.bfloat16())
    others = (large.double(), large.contiguous(), large[:32], large.to("meta"))
    assert not any(planes.suits(other) for other in others)
