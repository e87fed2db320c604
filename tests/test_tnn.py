"""Tensor networks against matrices, convolutions and ordinary networks; what leapfrog steps keep."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from scipy.fft import dct
from torch import Tensor, nn
from torch.nn import functional

from mcr.architectures.tnn import FORMS, Leapfrog, TLinear, Tnn, cosines, product, transposed_product
from mcr.bounds.box import Box
from mcr.errors import InputError

SIZE = 5


@pytest.fixture(autouse=True)
def _exact() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(before)


def orthonormal(size: int = SIZE) -> Tensor:
    return torch.linalg.qr(torch.randn(size, size))[0].contiguous()


def faces(tensor: Tensor, matrix: Tensor) -> Tensor:
    """Of a tensor (l, p, n) behind the transform."""
    return torch.einsum("kj,lpj->klp", matrix, tensor)


def times(one: Tensor, other: Tensor, matrix: Tensor) -> Tensor:
    """The M-product of tensors (l, p, n) and (p, m, n)."""
    return product(faces(one, matrix), other.transpose(0, 1), matrix).transpose(0, 1)


def close(found: Tensor, expected: Tensor) -> None:
    assert found.shape == expected.shape
    assert torch.allclose(found, expected, rtol=1e-10, atol=1e-10)


def leapfrog(step: float, units: int = 3, depth: int = 4) -> Leapfrog:
    return Leapfrog(units, depth, step, cosines(SIZE))


def flow(network: Leapfrog, state: Tensor) -> Tensor:
    """Both halves (2, units, n) after all steps, from one image's."""
    return torch.cat(network.run(state[:1], state[1:]))


def jacobian(network: Leapfrog, state: Tensor) -> Tensor:
    found = torch.autograd.functional.jacobian(lambda one: flow(network, one), state)
    return found.reshape(state.numel(), state.numel())


@pytest.mark.parametrize("matrix", [cosines, orthonormal])
def test_a_product_is_that_with_a_block_diagonal_matrix(matrix) -> None:
    transform, tensor, images = matrix(SIZE), torch.randn(4, 3, SIZE), torch.randn(6, 3, SIZE)
    blocks = torch.block_diag(*faces(tensor, transform))
    # Tubes are the slow index of blocks, and the fast one of an image.
    there = torch.kron(transform, torch.eye(3)) @ images.permute(2, 1, 0).flatten(0, 1)
    back = torch.kron(transform.T.contiguous(), torch.eye(4)) @ blocks @ there
    close(product(faces(tensor, transform), images, transform), back.view(SIZE, 4, 6).permute(2, 1, 0))


def test_with_fourier_s_transform_tubes_are_convolved_in_a_circle() -> None:
    fourier = torch.fft.fft(torch.eye(SIZE), norm="ortho")
    tensor, images = torch.randn(4, 3, SIZE), torch.randn(6, 3, SIZE)
    expected = torch.zeros(6, 4, SIZE)
    for here in range(SIZE):
        for shift in range(SIZE):
            expected[:, :, here] += images[:, :, (here - shift) % SIZE] @ tensor[:, :, shift].T
    stack = SIZE**0.5 * faces(tensor.to(fourier.dtype), fourier)
    found = product(stack, images.to(fourier.dtype), fourier)
    close(found.real, expected)
    close(found.imag, 0 * expected)


def test_without_a_transform_columns_are_layers_apart() -> None:
    layer, images = TLinear(3, 4, torch.eye(SIZE)), torch.randn(6, 3, SIZE)
    for column, (weight, bias) in enumerate(zip(layer.weight, layer.bias.T, strict=True)):
        close(layer(images)[:, :, column], functional.linear(images[:, :, column], weight, bias))


def test_products_are_associative_and_transposed_in_the_other_order() -> None:
    matrix = cosines(SIZE)
    one, other, third = torch.randn(4, 3, SIZE), torch.randn(3, 2, SIZE), torch.randn(2, 6, SIZE)
    close(times(times(one, other, matrix), third, matrix), times(one, times(other, third, matrix), matrix))
    turned = times(other.transpose(0, 1), one.transpose(0, 1), matrix)
    close(times(one, other, matrix).transpose(0, 1), turned)


def test_the_transposed_product_is_the_adjoint() -> None:
    matrix, tensor = cosines(SIZE), torch.randn(4, 3, SIZE)
    stack, y, z = faces(tensor, matrix), torch.randn(6, 4, SIZE), torch.randn(6, 3, SIZE)
    close(transposed_product(stack, y, matrix), product(faces(tensor.transpose(0, 1), matrix), y, matrix))
    close((product(stack, z, matrix) * y).sum(), (z * transposed_product(stack, y, matrix)).sum())


def test_the_tensor_whose_faces_are_unit_matrices_changes_nothing() -> None:
    images = torch.randn(6, 3, SIZE)
    for matrix in (cosines(SIZE), orthonormal()):
        close(product(torch.eye(3).expand(SIZE, 3, 3), images, matrix), images)


@pytest.mark.parametrize("size", [1, 2, 7, 28])
def test_the_transform_is_the_orthonormal_cosine_transform_and_its_inverse_the_transposed_one(size: int) -> None:
    close(cosines(size), torch.from_numpy(dct(torch.eye(size).numpy(), axis=0, norm="ortho")))
    close(cosines(size).T @ cosines(size), torch.eye(size))


def test_one_column_makes_an_ordinary_network() -> None:
    network = Tnn("plain", 4, 2, 0.1, 3, 2, (6, 1))
    layers = [layer for layer in network.layers if isinstance(layer, TLinear | nn.Linear)]
    images = torch.randn(5, 2, 6, 1)
    hidden = images.flatten(1)
    for layer in layers[:-1]:
        hidden = torch.tanh(functional.linear(hidden, layer.weight[0], layer.bias[:, 0]))
    close(network(images), layers[-1](hidden))


@pytest.mark.parametrize("form", FORMS)
def test_an_image_enters_as_rows_of_all_channels(form: str) -> None:
    """Any size; by the equations of the paper on one image, (rows x channels, 1, columns)."""
    network, images = Tnn(form, 4, 2, 0.25, 3, 2, (6, SIZE)), torch.randn(2, 2, 6, SIZE)
    matrix, (first, hidden, head) = cosines(SIZE), [network.layers[at] for at in (1, 3, -1)]

    def tensor(layer: TLinear) -> Tensor:
        return torch.einsum("kj,klp->lpj", matrix, layer.weight)

    for image, logits in zip(images, network(images), strict=True):
        rows = torch.cat([image[0], image[1]])[:, None]
        y = torch.tanh(times(tensor(first), rows, matrix) + first.bias[:, None])
        if form == "plain":
            for layer in (hidden, network.layers[5]):
                y = torch.tanh(times(tensor(layer), y, matrix) + layer.bias[:, None])
        else:
            z = torch.zeros(4, 1, SIZE)
            for layer in hidden.steps:
                z = z - 0.25 * torch.tanh(times(tensor(layer).transpose(0, 1), y, matrix) + layer.bias)
                y = y + 0.25 * torch.tanh(times(tensor(layer), z, matrix) + layer.bias)
        close(logits, head(y.flatten()))


@pytest.mark.parametrize("form", FORMS)
def test_no_squashing_stands_behind_the_last_layer(form: str) -> None:
    network, images = Tnn(form, 4, 2, 0.25, 3, 1, (6, SIZE)), torch.randn(8, 1, 6, SIZE)
    before = network(images)
    for parameter in network.layers[-1].parameters():
        parameter.data *= 100
    close(network(images), 100 * before)


def test_a_layer_begins_as_large_for_any_number_of_columns() -> None:
    """Each face is a layer of its own: columns count for nothing in how many inputs a unit has."""
    for size in (2, 50):
        assert float(TLinear(16, 40, cosines(size)).weight.detach().abs().max()) == pytest.approx(0.25, rel=0.02)


def test_faces_are_other_coordinates_of_one_tensor_to_gradient_descent() -> None:
    matrix, images = cosines(SIZE), torch.randn(6, 3, SIZE)
    tensor = torch.randn(4, 3, SIZE, requires_grad=True)
    stack = faces(tensor, matrix).detach().requires_grad_()
    for start in (faces(tensor, matrix), stack):
        torch.tanh(product(start, images, matrix)).square().sum().backward()
    assert tensor.grad is not None
    assert stack.grad is not None
    close(faces(tensor.grad, matrix), stack.grad)
    close(stack.norm(), tensor.norm())


def test_no_step_is_the_identity() -> None:
    state = torch.randn(2, 3, SIZE)
    assert torch.equal(flow(leapfrog(0.0), state), state)


def test_leapfrog_steps_can_be_undone() -> None:
    network, state = leapfrog(0.7), torch.randn(2, 3, SIZE)
    after = flow(network, state)
    y, z = after[:1], after[1:]
    for step in reversed(list(network.steps)):
        y = y - 0.7 * torch.tanh(step(z))
        z = z + 0.7 * torch.tanh(step.back(y))
    assert float((after - state).detach().abs().max()) > 0.1
    close(torch.cat([y, z]), state)


def test_leapfrog_steps_preserve_volumes_and_turn() -> None:
    """Without biases the field near 0 is an antisymmetric matrix: W and -W^T beside zeros."""
    network, state = leapfrog(0.7), torch.randn(2, 3, SIZE)
    close(torch.linalg.det(jacobian(network, state)), torch.tensor(1.0))
    small = leapfrog(1e-6, depth=1)
    small.steps[0].bias.data.zero_()
    field = (jacobian(small, 0 * state) - torch.eye(2 * 3 * SIZE)) / 1e-6
    assert float(field.abs().max()) > 0.1
    assert torch.allclose(field, -field.T, atol=1e-5)


def test_the_bounds_of_a_layer_are_reached() -> None:
    layer, box = TLinear(2, 3, cosines(2)), Box(torch.zeros(1, 2, 2), torch.rand(1, 2, 2))
    corners = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 4).view(16, 2, 2) * box.upper
    found, values = layer.enclose(box), layer(corners)
    close(found.lower, values.amin(0, keepdim=True))
    close(found.upper, values.amax(0, keepdim=True))


def test_wrong_words_are_refused() -> None:
    with pytest.raises(InputError, match=r"architecture\.form=stable must be plain or leapfrog"):
        Tnn("stable", 4, 1, 0.1, 3, 1, (4, 4))
    for units, depth, step in ((0, 1, 0.1), (4, 0, 0.1), (4, 1, 0.0), (4, 1, float("nan")), (4, 1, float("inf"))):
        with pytest.raises(InputError, match="architecture=tnn: units="):
            Tnn("leapfrog", units, depth, step, 3, 1, (4, 4))
