"""Students that are trained on images give exact derivatives of where they arrive."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from winnow import registry
from winnow.distill.engine import objective
from winnow.distill.engine.convnet_student import ConvNetStudent, features_of, in_parts, student_of
from winnow.distill.engine.objective import Objective
from winnow.distill.engine.students import AutogradStudent, Student, flat
from winnow.distill.engine.unroll import Mode, matching_loss
from winnow.models.engine import planes
from winnow.train.engine.classifier import Classifier, assemble

CONVNET = registry.load("models", "convnet", "")
OBJECTIVES: tuple[Objective, ...] = ("cross_entropy", "mse")
SHAPES = ((8, 3, 2), (7, 1, 2), (14, 1, 3), (9, 2, 1))
"""Size, channels, depth: odd sizes lose a row and a column in pooling."""


def network(
    size: int, channels: int, depth: int, norm: str = "instance", name: str = "convnet", growth: int = 1
) -> Classifier:
    torch.manual_seed(3)
    model = registry.load("models", name, "")
    own = {"depth": depth, "width": 5, "norm": norm, "growth": growth} if name == "convnet" else {}
    return assemble(model, model.params(**own), channels, size, 4).double()


def batch(size: int, channels: int, count: int = 6, seed: int = 0) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    images = torch.randn(count, channels, size, size, generator=random, dtype=torch.float64)
    return images, torch.rand(count, 4, generator=random, dtype=torch.float64)


def weights_of(net: Classifier, seed: int = 5) -> Tensor:
    own = flat(net.parameters())
    return own + 0.1 * torch.randn(own.shape, generator=torch.Generator().manual_seed(seed), dtype=own.dtype)


@pytest.fixture(params=["loops", "torch"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways in which planes are computed."""
    monkeypatch.setattr(planes, "by_loops", lambda z: request.param == "loops")
    return str(request.param)


@pytest.mark.parametrize("kind", OBJECTIVES)
@pytest.mark.parametrize("growth", [1, 2])
@pytest.mark.parametrize("shape", SHAPES)
def test_written_out_derivatives_are_the_automatic_ones(
    shape: tuple[int, int, int], growth: int, kind: Objective, way: str
) -> None:
    net = network(*shape, growth=growth)
    ours, reference = student_of(net, kind), AutogradStudent(net, kind)
    assert isinstance(ours, ConvNetStudent)
    weights, (images, targets) = weights_of(net), batch(*shape[:2])
    direction = torch.randn(weights.shape, dtype=torch.float64)
    torch.testing.assert_close(
        ours.gradient(weights, images, targets), reference.gradient(weights, images, targets)
    )
    found, wanted = (student.mixed(weights, images, targets, direction) for student in (ours, reference))
    for part in ("along", "weights", "images", "targets"):
        torch.testing.assert_close(getattr(found, part), getattr(wanted, part), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_objectives_have_the_derivatives_of_their_loss(kind: Objective) -> None:
    outputs, targets, direction = (torch.randn(5, 4, dtype=torch.float64) for _ in range(3))
    targets = targets.abs().requires_grad_()
    outputs.requires_grad_()
    loss = objective.loss(kind, outputs, targets)
    (by_outputs,) = torch.autograd.grad(loss, outputs, create_graph=True)
    torch.testing.assert_close(objective.gradient(kind, outputs, targets), by_outputs)
    moved = (by_outputs * direction).sum()
    again, by_targets = torch.autograd.grad(moved, (outputs, targets))
    found = objective.along(kind, outputs.detach(), targets.detach(), direction)
    for ours, wanted in zip(found, (moved, again, by_targets), strict=True):
        torch.testing.assert_close(ours, wanted.detach())


def test_cross_entropy_of_one_hot_labels_is_that_of_torch() -> None:
    outputs, labels = torch.randn(9, 4), torch.randint(4, (9,))
    ours = objective.loss("cross_entropy", outputs, objective.one_hot(labels, 4))
    torch.testing.assert_close(ours, torch.nn.functional.cross_entropy(outputs, labels))


@pytest.mark.parametrize("net", [network(8, 3, 2, norm="batch"), network(8, 3, 2, name="mlp")])
def test_other_networks_are_differentiated_automatically(net: Classifier) -> None:
    student = student_of(net, "cross_entropy")
    assert isinstance(student, AutogradStudent)
    weights, (images, targets) = weights_of(net), batch(8, 3)
    direction = torch.randn_like(weights)
    step = 1e-6
    ahead, behind = (student.gradient(weights + sign * step * direction, images, targets) for sign in (1, -1))
    found = student.mixed(weights, images, targets, direction)
    torch.testing.assert_close(found.weights, (ahead - behind) / (2 * step), rtol=1e-4, atol=1e-6)


def problem(
    steps: int, size: float = 0.1
) -> tuple[Classifier, Tensor, Tensor, list[Tensor], list[Tensor], Tensor]:
    """Return network, start, target, leaves of images and targets, and the step size."""
    net = network(7, 1, 2)
    start, target = weights_of(net, 1), weights_of(net, 2)
    pairs = [batch(7, 1, 3, seed) for seed in range(steps)]
    images, targets = ([pair[at].requires_grad_() for pair in pairs] for at in (0, 1))
    return net, start, target, images, targets, torch.tensor(size, dtype=torch.float64).requires_grad_()


def derivatives(student: Student, mode: Mode, parts: tuple) -> tuple[Tensor, list[Tensor]]:  # type: ignore[type-arg]
    _, start, target, images, targets, step_size = parts
    loss = matching_loss(student, start, target, images, targets, step_size, mode)
    return loss.detach(), list(torch.autograd.grad(loss, [*images, *targets, step_size]))


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_the_recursion_is_the_derivative_of_the_whole_training(kind: Objective, way: str) -> None:
    parts = problem(4)
    loss, found = derivatives(student_of(parts[0], kind), "recursion", parts)
    again, wanted = derivatives(AutogradStudent(parts[0], kind), "graph", parts)
    torch.testing.assert_close(loss, again)
    for ours, reference in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, reference, rtol=1e-8, atol=1e-12)


def test_derivatives_agree_with_finite_differences() -> None:
    net, start, target, images, targets, step_size = problem(3)
    student = student_of(net, "mse")

    def loss(size: Tensor, *data: Tensor) -> Tensor:
        return matching_loss(student, start, target, data[:3], data[3:], size)

    assert torch.autograd.gradcheck(loss, (step_size, *images, *targets), eps=1e-6, atol=1e-5)


def test_tesla_is_exact_for_one_step_and_departs_with_length_and_step_size() -> None:
    def cosine(steps: int, size: float) -> float:
        parts = problem(steps, size)
        student = student_of(parts[0], "cross_entropy")
        exact, frozen = (
            torch.cat([g.flatten() for g in derivatives(student, mode, parts)[1][:steps]])
            for mode in ("recursion", "frozen")
        )
        return float(torch.nn.functional.cosine_similarity(exact, frozen, dim=0))

    assert cosine(1, 0.5) == pytest.approx(1, abs=1e-12)
    near, middle, far = cosine(5, 0.01), cosine(20, 0.1), cosine(30, 0.5)
    assert near > 0.99 and near > middle > far


def test_without_steps_the_loss_is_one_and_halfway_it_is_a_quarter() -> None:
    net, start, target, images, targets, _ = problem(2)
    nothing = torch.tensor(0.0, dtype=torch.float64)
    student = student_of(net, "mse")
    assert matching_loss(student, start, target, images, targets, nothing).item() == pytest.approx(
        1, abs=1e-12
    )

    class Toy:
        """Its gradient leads from (1, 2) to (0.5, 1.5) in one step of size 1."""

        def gradient(self, weights: Tensor, images: Tensor, targets: Tensor) -> Tensor:
            return torch.tensor([0.5, 0.5])

    begun, wanted = torch.tensor([1.0, 2.0]), torch.tensor([0.0, 1.0])
    toy = matching_loss(Toy(), begun, wanted, [torch.ones(1)], [torch.ones(1)], torch.tensor(1.0))  # type: ignore[arg-type]
    assert toy.item() == 0.25


def test_on_the_experts_own_batches_the_student_arrives_where_the_expert_did() -> None:
    net, start, _, images, targets, _ = problem(5)
    student, rate, weights = student_of(net, "cross_entropy"), 0.3, start
    for shown, wanted in zip(images, targets, strict=True):
        weights = weights - rate * AutogradStudent(net, "cross_entropy").gradient(weights, shown, wanted)
    size = torch.tensor(rate, dtype=torch.float64)
    assert matching_loss(student, start, weights, images, targets, size).item() < 1e-20


def test_a_graph_is_kept_by_automatic_students_alone() -> None:
    net, start, target, images, targets, step_size = problem(1)
    with pytest.raises(TypeError, match="keeps no graph"):
        matching_loss(student_of(net, "mse"), start, target, images, targets, step_size, "graph")


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_features_without_a_graph_are_those_of_the_network(norm: str, way: str) -> None:
    encoder = network(9, 2, 2, norm=norm).encoder.float().eval()
    images = torch.randn(70, 2, 9, 9)
    with torch.no_grad():
        wanted = encoder(images)
    torch.testing.assert_close(features_of(encoder, images, None), wanted, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(features_of(encoder, images, torch.bfloat16), wanted, rtol=0.1, atol=0.05)


def test_parts_of_a_batch_give_the_features_and_the_gradient_of_all() -> None:
    encoder = network(9, 2, 2).encoder.double()
    images = torch.randn(70, 2, 9, 9, dtype=torch.float64, requires_grad=True)
    for most in (70, 32, 1):
        features = in_parts(encoder, images, most)
        torch.testing.assert_close(features, encoder(images))
        (found,) = torch.autograd.grad(features.sin().sum(), images)
        (wanted,) = torch.autograd.grad(encoder(images).sin().sum(), images)
        torch.testing.assert_close(found, wanted)


def test_batch_norm_in_training_sees_all_images_at_once() -> None:
    encoder = network(9, 2, 2, norm="batch").encoder.double()
    images = torch.randn(70, 2, 9, 9, dtype=torch.float64)
    together = encoder(images)
    torch.testing.assert_close(in_parts(encoder, images, 32), together)
    halves = torch.cat([encoder(images[:35]), encoder(images[35:])])
    assert not torch.allclose(halves, together)
