"""Curvature of the loss in the input: the largest eigenvalue of the Hessian of the cross-entropy, image by image."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mcr.attacks.evasion import ordinary
from mcr.attacks.frozen import frozen
from mcr.probes.hessian_product import Products, differences, differentiated, products_of
from mcr.probes.piecewise import piecewise_linear, refuse_batch_statistics
from mcr.types import Batch

MOST_NUMBERS = 2**27  # of logit gradients held at a time: 512 MiB in float32


@dataclass(frozen=True)
class Curvature:
    """Curvature at each image.

    Attributes:
        method: "exact", "lanczos", or "differences": Lanczos with products by differences of the gradient.
        eigenvalue: The largest eigenvalue with its sign, in nats per squared pixel unit (N,).
        direction: Its eigenvector, of length 1 (N, D, H, W).
        gradient_norm: l2 norm of the loss's gradient in the input (N,).
        residual: |H v - lambda v|, 0 where the method is exact up to rounding (N,).
    """

    method: str
    eigenvalue: Tensor
    direction: Tensor
    gradient_norm: Tensor
    residual: Tensor

    @property
    def relative_residual(self) -> Tensor:
        """|H v - lambda v| / |lambda| (N,), at most 1: then no digit of lambda is known."""
        tiny = torch.finfo(self.residual.dtype).tiny
        return (self.residual / self.eigenvalue.abs().clamp_min(tiny)).clamp(max=1)

    def alignment(self, perturbation: Tensor) -> Tensor:
        """|cos| between the eigenvector and a perturbation (N, D, H, W); 0 for a perturbation of zero: (N,).

        Zhao et al. (2020, proposition 1) assume that the attack's perturbation follows the eigenvector.
        """
        delta = perturbation.flatten(1)
        lengths = torch.linalg.vector_norm(delta, dim=1).clamp_min(torch.finfo(delta.dtype).tiny)
        cosines: Tensor = (self.direction.flatten(1) * delta).sum(1) / lengths
        return cosines.abs()


def curvature(network: nn.Module, batches: Iterable[Batch], generator: torch.Generator, steps: int) -> Curvature:
    """Curvature at each image, on the CPU, by the method that fits the network.

    Piecewise linear networks get the exact form, all others batched Lanczos; those that torch cannot differentiate
    twice with differences of the gradient (see ``mcr.probes.hessian_product``).

    Args:
        network: Run in evaluation mode.
        batches: Images and labels.
        generator: For the first vectors of Lanczos.
        steps: Hessian-vector products of Lanczos.
    """
    products: Products = differentiated
    found, method = [], ""
    with frozen(network):
        for images, labels in batches:
            if not method:
                method = "exact" if piecewise_linear(network, images[:2]) else "lanczos"
                if method == "lanczos":
                    products = products_of(network, images[:1], labels[:1])
            if method == "exact":
                found.append(exact(network, images, labels))
            else:
                found.append(lanczos(network, images, labels, steps, generator, products))
    parts = ("eigenvalue", "direction", "gradient_norm", "residual")
    return Curvature(found[0].method, *(torch.cat([getattr(one, name).cpu() for one in found]) for name in parts))


def exact(network: nn.Module, images: Tensor, labels: Tensor) -> Curvature:
    """The largest eigenvalue for a piecewise linear network, from C - 1 vector-Jacobian products and no iteration.

    Where the logits z(x) are linear, H = J^T S J with J = dz/dx (C, D) and S = diag(p) - p p^T = A A^T,
    A = diag(sqrt p) - p sqrt(p)^T. As S 1 = 0, J may be replaced by the gradients of the differences to the most
    probable class, whose own row is then zero: this also avoids the cancellation in 1 - p of a confident network. The
    largest eigenvalue of H is that of the C x C matrix A^T J J^T A; with its eigenvector u, that of H is J^T A u.
    The labels matter for the gradient only.

    Args:
        network: Piecewise linear in its input (see ``piecewise_linear``), in evaluation mode, frozen.
        images: (B, D, H, W), in float32 or float64.
        labels: (B,).
    """
    refuse_batch_statistics(network)
    with torch.no_grad():
        classes = network(images[:1]).shape[1]
    most = max(1, MOST_NUMBERS // ((classes - 1) * images[0].numel()))
    parts = [_exact(network, images[i : i + most], labels[i : i + most]) for i in range(0, len(images), most)]
    names = ("eigenvalue", "direction", "gradient_norm", "residual")
    return Curvature("exact", *(torch.cat([getattr(part, name) for part in parts]) for name in names))


def _exact(network: nn.Module, images: Tensor, labels: Tensor) -> Curvature:
    with torch.inference_mode(False), torch.enable_grad():
        leaf = ordinary(images.detach()).requires_grad_(True)
        logits = network(leaf)
        order = logits.detach().argsort(1, descending=True)
        differences = logits.gather(1, order[:, 1:]) - logits.gather(1, order[:, :1])
        rows = [
            torch.autograd.grad(differences[:, k].sum(), leaf, retain_graph=k < differences.shape[1] - 1)[0].flatten(1)
            for k in range(differences.shape[1])
        ]
    jacobian = torch.stack(rows, 1)  # (B, C - 1, D H W)
    probabilities = logits.detach().gather(1, order).softmax(1)
    roots = probabilities.sqrt()
    factor = torch.diag_embed(roots) - probabilities[:, :, None] * roots[:, None, :]
    factor = factor[:, 1:, :]  # the most probable class's row meets a gradient of zero
    gram = factor.transpose(1, 2) @ (jacobian @ jacobian.transpose(1, 2)) @ factor
    values, vectors = _eigh(gram)
    direction = torch.einsum("bkd,bk->bd", jacobian, (factor @ vectors[:, :, -1:])[:, :, 0])
    direction /= torch.linalg.vector_norm(direction, dim=1, keepdim=True).clamp_min(torch.finfo(direction.dtype).tiny)
    wrong = probabilities - (order == labels[:, None]).to(probabilities.dtype)
    gradient = torch.einsum("bkd,bk->bd", jacobian, wrong[:, 1:])
    return Curvature(
        "exact",
        values[:, -1].clamp(min=0),
        direction.view_as(images),
        torch.linalg.vector_norm(gradient, dim=1),
        torch.zeros_like(values[:, -1]),
    )


def lanczos(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    steps: int,
    generator: torch.Generator,
    products: Products = differentiated,
) -> Curvature:
    """The largest eigenvalue (not the largest in magnitude) for any network, by Lanczos with full reorthogonalisation.

    All images of a batch at once: in evaluation mode the Hessian of the summed loss is block diagonal, so one
    Hessian-vector product serves them all (Lanczos 1950; Golub and Van Loan, section 10.1).

    Args:
        network: In evaluation mode, frozen.
        images: (B, D, H, W).
        labels: (B,).
        steps: Hessian-vector products, at most as many as there are pixels.
        generator: For the first vectors.
        products: How vectors are multiplied by the Hessian.
    """
    refuse_batch_statistics(network)
    size = images[0].numel()
    steps = min(steps, size)
    gradient, product = products(network, images, labels)

    def random() -> Tensor:
        return torch.randn(len(images), size, generator=generator, dtype=torch.float64).to(images)

    basis, diagonal, beside = [_unit(random())], [], []
    for step in range(steps):
        image = product(basis[-1])
        diagonal.append((image * basis[-1]).sum(1))
        if step == steps - 1:
            break
        known = torch.stack(basis, 1)  # (B, k, D H W)
        rest = _without(_without(image, known), known)
        length = torch.linalg.vector_norm(rest, dim=1)
        scale = torch.linalg.vector_norm(image, dim=1)
        # An invariant subspace is exhausted: go on from a new direction, which the old ones do not see.
        done = length <= 100 * torch.finfo(rest.dtype).eps * scale.clamp_min(torch.finfo(rest.dtype).tiny)
        fresh = _without(_without(random(), known), known)
        basis.append(_unit(torch.where(done[:, None], fresh, rest)))
        beside.append(torch.where(done, 0.0, length))
    tridiagonal = torch.diag_embed(torch.stack(diagonal, 1))
    if beside:
        off = torch.stack(beside, 1)
        tridiagonal = tridiagonal + torch.diag_embed(off, 1) + torch.diag_embed(off, -1)
    values, vectors = _eigh(tridiagonal)
    direction = _unit(torch.einsum("bkd,bk->bd", torch.stack(basis, 1), vectors[:, :, -1]))
    largest = values[:, -1]
    residual = torch.linalg.vector_norm(product(direction) - largest[:, None] * direction, dim=1)
    norm = torch.linalg.vector_norm(gradient, dim=1).to(largest)
    method = "differences" if products is differences else "lanczos"
    return Curvature(method, largest, direction.view_as(images).detach(), norm, residual)


def _eigh(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues (B, n) and eigenvectors (B, n, n); NaN for an image whose network gave no finite numbers."""
    finite = torch.isfinite(matrices).flatten(1).all(1)
    values, vectors = torch.linalg.eigh(torch.where(finite[:, None, None], matrices, 0.0))
    return torch.where(finite[:, None], values, torch.nan), vectors


def _without(vectors: Tensor, basis: Tensor) -> Tensor:
    """Vectors (B, D) less their parts along an orthonormal basis (B, k, D)."""
    return vectors - torch.einsum("bkd,bk->bd", basis, torch.einsum("bkd,bd->bk", basis, vectors))


def _unit(vectors: Tensor) -> Tensor:
    lengths: Tensor = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
    return vectors / lengths
