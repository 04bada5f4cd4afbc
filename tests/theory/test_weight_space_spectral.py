"""The iteration against exact singular values, on spectra that make it hard."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bnaudit.measure.weight_space.spectral import spectral_norms
from bnaudit.measure.weight_space.unfolded import UnfoldedConvolution, UnfoldedProduct

CPU = torch.device("cpu")


def with_spectrum(singular: Tensor, rows: int, seed: int) -> Tensor:
    """A (rows, d) matrix with these singular values and random singular vectors."""
    generator = torch.Generator().manual_seed(seed)
    left, right = (
        torch.linalg.qr(torch.randn(n, len(singular), generator=generator, dtype=torch.float64))[0]
        for n in (rows, len(singular))
    )
    return left * singular @ right.T


def exact(u: Tensor) -> tuple[float, float]:
    wide = u.double()
    centred = wide - wide.mean(0)
    return float(torch.linalg.svdvals(wide)[0]), float(torch.linalg.svdvals(centred)[0])


SPECTRA = {
    "gap of 1e-3": torch.tensor([1.0, 1 - 1e-3, 0.9, 0.5, 0.1]),
    "gap of 1e-5": torch.cat([torch.tensor([1.0, 1 - 1e-5]), torch.linspace(0.99, 0, 60)]),
    "dense edge": torch.linspace(1, 0.5, 150),
    "double": torch.tensor([2.0, 2.0, 1.0]),
    "all equal": torch.ones(20),
    "rank one": torch.tensor([3.0] + [0.0] * 20),
    "steep": torch.logspace(0, -12, 40),
    "flat with one above": torch.cat([torch.tensor([1.0 + 1e-4]), torch.ones(80)]),
}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", SPECTRA)
def test_hard_spectra(name: str, seed: int) -> None:
    u = with_spectrum(SPECTRA[name].double(), 200, seed)
    norms = spectral_norms(UnfoldedProduct(u), CPU)
    assert norms.converged
    assert float(norms.plain) == pytest.approx(exact(u)[0], rel=1e-6)
    assert float(norms.centred) == pytest.approx(exact(u)[1], rel=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    m=st.integers(1, 60), d=st.integers(1, 60), shift=st.floats(0, 100), seed=st.integers(0, 10**6)
)
def test_random_matrices(m: int, d: int, shift: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    u = torch.randn(m, d, generator=generator, dtype=torch.float64) + shift
    norms = spectral_norms(UnfoldedProduct(u), CPU)
    plain, centred = exact(u)
    assert float(norms.plain) == pytest.approx(plain, rel=1e-6)
    assert float(norms.centred) == pytest.approx(centred, rel=1e-6, abs=1e-6 * plain)
    assert norms.steps <= d


@pytest.mark.parametrize("name", SPECTRA)
def test_float32(name: str) -> None:
    u = with_spectrum(SPECTRA[name].double(), 200, 0).float()
    norms = spectral_norms(UnfoldedProduct(u), CPU)
    assert norms.converged
    assert float(norms.plain) == pytest.approx(exact(u)[0], rel=5e-6)
    assert float(norms.centred) == pytest.approx(exact(u)[1], rel=5e-6)


def test_zero_input() -> None:
    norms = spectral_norms(UnfoldedProduct(torch.zeros(6, 4, dtype=torch.float64)), CPU)
    assert norms.converged
    assert float(norms.plain) == float(norms.centred) == 0


def test_many_groups_at_once() -> None:
    """More small problems than are checked every step; one of them has a dead input channel."""
    torch.manual_seed(0)
    x = torch.randn(2, 150, 6, 6, dtype=torch.float64)
    x[:, 7] = 0
    unfolded = UnfoldedConvolution(x, (3, 3), (1, 1), (1, 1), (1, 1), (0, 0), False, 150)
    norms = spectral_norms(unfolded, CPU)
    assert norms.converged
    assert norms.plain.shape == (150,)
    patches = torch.nn.functional.unfold(x, 3, padding=1).view(2, 150, 9, 36)
    for group, u in enumerate(patches.movedim(0, 1).mT.reshape(150, 72, 9)):
        plain, centred = exact(u)
        assert float(norms.plain[group]) == pytest.approx(plain, rel=1e-6)
        assert float(norms.centred[group]) == pytest.approx(centred, rel=1e-6)


@pytest.mark.parametrize("transposed", [False, True])
def test_adjoint_is_the_adjoint_of_apply(transposed: bool) -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 4, 7, 6, dtype=torch.float64)
    unfolded = UnfoldedConvolution(x, (3, 2), (2, 1), (1, 0), (1, 2), (0, 0), transposed, 2)
    rows = torch.randn(6, unfolded.size, dtype=torch.float64)
    image = unfolded.apply(rows)
    y = torch.randn_like(image)
    left = (image * y).movedim(1, 0).flatten(1).sum(1)
    assert left.allclose((rows * unfolded.adjoint(y)).sum(1), rtol=1e-12)


def test_an_operator_that_overflows() -> None:
    u = torch.full((6, 4), 1e30)
    norms = spectral_norms(UnfoldedProduct(u), CPU)
    assert not norms.converged
