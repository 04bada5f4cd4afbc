"""Tables about random samples, without a network."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from bench.theory.slips import slips
from bench.theory.text import number, order, table
from bnaudit.measure.moments import stable_moments
from bnaudit.measure.theory import first_order

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


def sampling() -> str:
    """Healthy channels: the standard deviation of drift, times the root of the number of values."""
    count, channels = 1024, 4096
    generator = torch.Generator().manual_seed(0)
    rows = []
    for name, draw in _DISTRIBUTIONS.items():
        x = draw(torch.rand(count, channels, generator=generator, dtype=torch.float64))
        x = x / draw(torch.rand(1 << 22, generator=generator, dtype=torch.float64)).std()
        shift, ratio = x.mean(0), x.var(0, correction=0).log2()
        root = math.sqrt(count)
        rows.append([name, number(float(shift.std()) * root), number(float(ratio.std()) * root)])
    rows.append(["what the report assumes", "1", number(math.sqrt(2) / math.log(2))])
    return table(["values", "mean drift", "log2 variance drift"], rows)


def _laplace(u: Tensor) -> Tensor:
    return (u - 0.5).sign() * torch.log1p(-2 * (u - 0.5).abs())


_DISTRIBUTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "uniform": lambda u: u - 0.5,
    "Gaussian": torch.special.ndtri,
    "Laplace": _laplace,
}


def few() -> str:
    """What survives of a random G."""
    generator = torch.Generator().manual_seed(0)
    rows = []
    for m in (3, 4, 8, 16, 64):
        x, big_g = (
            torch.randn(m, 4096, generator=generator, dtype=torch.float64) for _ in range(2)
        )
        found = first_order(stable_moments(x, big_g, big_g), None, 1e-5, m)
        kept = found.predicted_sq.sum() / (found.gain**2 * found.grad_out_sq).sum()
        mean = (found.predicted_sq / (found.gain**2 * found.grad_out_sq)).mean()
        rows.append([str(m), number((m - 2) / m), number(float(mean)), number(float(kept))])
    return table(["m", "(m - 2)/m", "mean over channels", "Pi of the layer"], rows)


def precision() -> str:
    """Float32, G almost along 1 and xhat: the textbook difference against the stable form."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(512, 16, generator=generator)
    noise = torch.randn(512, 16, generator=generator)
    xhat = (x - x.mean(0)) / x.std(0, correction=0)
    rows = []
    for size in (1e-1, 1e-3, 1e-5):
        big_g = 1 + xhat + size * noise
        s, mean = (xhat * big_g).sum(0), big_g.mean(0)
        textbook = (big_g**2).sum(0) - 512 * mean**2 - s**2 / 512
        stable, exact = (
            stable_moments(t, u, u).grad_rest_sq
            for t, u in ((x, big_g), (x.double(), big_g.double()))
        )
        negative = "some" if bool((textbook < 0).any()) else "none"
        off = float(((textbook.clamp(min=0).double() / exact).sqrt() - 1).abs().max())
        rows.append(
            [
                f"{size:.0e}",
                negative,
                order(off),
                order(float(((stable / exact).sqrt() - 1).abs().max())),
            ]
        )
    header = ["abs(g)/(abs(D) abs(G)), about", "textbook: negative channels", "textbook: error"]
    return table([*header, "stable form: error"], rows)


def slip_table() -> str:
    """Right formulas and wrong ones on one random problem."""
    rows = [
        [r.where, "right" if r.right else "wrong", f"`{r.says}`", _slip(r.error, r.right), r.test]
        for r in slips()
    ]
    return table(["theorem", "", "formula", "relative error", "checked by"], rows)


def _slip(error: float, right: bool) -> str:
    return order(error) if right else number(error)
