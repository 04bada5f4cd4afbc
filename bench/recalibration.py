"""How much of the gap between running and batch statistics each way of recomputing closes.

    python -m bench.recalibration [--write]

The eight networks of bench/defects, made five times as people make networks whose statistics fit nothing,
and once as they should be. Statistics are computed from the training half (without labels, in batches of 32)
and judged on the held-back half, as deployed. The gap is the deployed loss before less that with batch
statistics; `update_bn` is PyTorch's own. Needs scikit-learn, as bench/defects/train.py.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # the field's name for it

import bnaudit
from bench.defects.data import inputs_of
from bench.defects.nets import NETS
from bench.defects.train import scaling, source_of, split

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCUMENT = Path(__file__).parents[1] / "docs" / "recalibrate.md"
BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"
_BATCH = 32
_LEAST_GAP = 0.05
"""Of the loss with batch statistics: below, there is nothing to recover."""


@dataclass(frozen=True, slots=True)
class Rows:
    """What a network is trained on, and what it is judged on."""

    x: Tensor
    y: Tensor
    held_x: Tensor
    held_y: Tensor


def rows_of(name: str) -> Rows:
    """Both halves, as the network is fed."""
    info = NETS[name]
    parts = split(source_of(info))
    scale = scaling(parts.train)
    x, held = (inputs_of(info.data, part, scale) for part in (parts.train, parts.held))
    if info.target == "input":
        return Rows(x, x, held, held)
    y, held_y = (torch.from_numpy(part) for part in (parts.train_labels, parts.held_labels))
    return Rows(x, y, held, held_y)


def loss_of(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """The loss that the network was trained on."""
    out = net(x)
    return F.mse_loss(out, y) if y.is_floating_point() else F.cross_entropy(out, y)


def fitted(net: nn.Module, rows: Rows, seed: int, epochs: int, batch: int = 64, rate: float = 0.05,
           average: nn.Module | None = None) -> nn.Module:  # fmt: skip
    """Trains on; `average` becomes the moving average of the weights (0.99 a step)."""
    draw = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.SGD(net.parameters(), rate, momentum=0.9)
    net.train()
    for _ in range(epochs):
        order = torch.randperm(len(rows.x), generator=draw)
        for chosen in order[: len(order) // batch * batch].reshape(-1, batch):
            optimiser.zero_grad()
            loss_of(net, rows.x[chosen], rows.y[chosen]).backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimiser.step()
            if average is not None:
                for mine, own in zip(average.parameters(), net.parameters(), strict=True):
                    mine.data.lerp_(own.data, 0.01)
    return net.eval()


def between(one: nn.Module, two: nn.Module, t: float, *, statistics: bool) -> nn.Module:
    """One + t (two - one); the statistics as well, or those of the second."""
    made, state, other = copy.deepcopy(two), one.state_dict(), two.state_dict()
    for name, value in made.state_dict().items():
        if value.is_floating_point() and (statistics or "running" not in name):
            value.copy_(state[name] + t * (other[name] - state[name]))
            if name.endswith("running_var"):
                value.clamp_(min=1e-3)
    return made


def kinds(name: str, rows: Rows) -> Iterator[tuple[str, nn.Module, Rows]]:
    """The network as it goes wrong, and its data."""
    torch.manual_seed(0)
    fresh = NETS[name].make()
    average = copy.deepcopy(fresh)
    late = fitted(copy.deepcopy(fresh), rows, 2, 10, rate=0.1, average=average)
    start = fitted(copy.deepcopy(fresh), rows, 2, 4, rate=0.1)
    for mine, own in zip(average.buffers(), late.buffers(), strict=True):
        mine.data.copy_(own.data)
    yield "average of weights", average, rows
    one, two = (fitted(copy.deepcopy(start), site, 3, 4, rate=0.1) for site in sites(rows))
    yield "two sites averaged", between(one, two, 0.5, statistics=True), rows
    yield "extrapolated weights", between(start, late, 1.7, statistics=False), rows
    few = 1 if rows.x.dim() > 2 else 2  # one row has no variance without positions
    tiny = fitted(copy.deepcopy(start), rows, 5, 2, batch=few, rate=0.01)
    yield "one or two rows a batch", tiny, rows
    if NETS[name].data == "digits" and NETS[name].target == "class":
        double = Rows(*(_twice(x) if x.dim() > 1 else x for x in _parts(rows)))
        yield "other resolution", late, double
    yield "healthy", late, rows


def sites(rows: Rows) -> tuple[Rows, Rows]:
    """Two halves of the data that differ: by label, or by brightness."""
    by = rows.x.flatten(1).mean(1) if rows.y.is_floating_point() else rows.y
    low, high = by.argsort().tensor_split(2)
    one, two = (Rows(rows.x[part], rows.y[part], rows.held_x, rows.held_y) for part in (low, high))
    return one, two


def _parts(rows: Rows) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return rows.x, rows.y, rows.held_x, rows.held_y


def _twice(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear")


def deployed(net: nn.Module, rows: Rows) -> float:
    """The loss on the held-back half with running statistics."""
    with torch.no_grad():
        return float(loss_of(copy.deepcopy(net).eval(), rows.held_x, rows.held_y))


def with_batches(net: nn.Module, rows: Rows) -> float:
    """The same with the statistics of batches of 32."""
    own = copy.deepcopy(net).train()
    with torch.no_grad():
        parts = zip(rows.held_x.split(_BATCH), rows.held_y.split(_BATCH), strict=True)
        losses = [(float(loss_of(own, x, y)), len(x)) for x, y in parts if len(x) == _BATCH]
    return sum(v * n for v, n in losses) / sum(n for _, n in losses)


def recomputed(net: nn.Module, rows: Rows, way: str) -> nn.Module:
    """With new statistics from the training half."""
    made = copy.deepcopy(net)
    if way == "update_bn":
        torch.optim.swa_utils.update_bn(list(rows.x.split(_BATCH)), made)
        return made.eval()
    size = 8 if way.endswith("of 8") else _BATCH
    name = "one-pass" if way.startswith("one-pass") else way
    bnaudit.recalibrate(made, data=rows.x, way=name, batch_size=size, write=True, force=True)
    return made


WAYS = ("update_bn", "one-pass", "one-pass, batches of 8", "front-to-back")


@dataclass(frozen=True, slots=True)
class Line:
    """One network of one kind: the losses, and what was noticed."""

    kind: str
    name: str
    batch: float
    before: float
    after: dict[str, float]
    refused: str
    formats: float
    passes: int

    def recovered(self, way: str) -> float:
        """Share of the gap that is gone."""
        return (self.before - self.after[way]) / (self.before - self.batch)

    @property
    def has_gap(self) -> bool:
        """Whether there is something to recover."""
        return self.before - self.batch > _LEAST_GAP * self.batch


def measured() -> Iterator[Line]:
    """Every network of every kind."""
    for name in NETS:
        for kind, net, rows in kinds(name, rows_of(name)):
            after = {way: deployed(recomputed(net, rows, way), rows) for way in WAYS}
            report = bnaudit.recalibrate(net, data=rows.x, labels=rows.y)
            yield Line(
                kind,
                name,
                with_batches(net, rows),
                deployed(net, rows),
                after,
                ", ".join(refusal.case for refusal in report.refusals),
                _apart(net, rows, after["front-to-back"]) if kind == "average of weights" else 0.0,
                report.passes,
            )


def _apart(net: nn.Module, rows: Rows, wanted: float) -> float:
    """Largest difference of the loss as scripted and as ONNX from the live module's, relative."""
    found = []
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = Path(name)
        torch.jit.script(net).save(str(folder / "net.pt"))
        torch.onnx.export(
            net, (rows.x[:2],), str(folder / "net.onnx"), dynamo=False, do_constant_folding=False,
            training=torch.onnx.TrainingMode.PRESERVE, input_names=["x"],
            dynamic_axes={"x": {0: "n"}},
        )  # fmt: skip
        for kind in ("net.pt", "net.onnx"):
            fixed = folder / f"fixed_{kind}"
            bnaudit.recalibrate(folder / kind, data=[rows.x], output=fixed, force=True)
            from bnaudit.load import load

            found.append(deployed_of(load(fixed).module, rows))
    return max(abs(value - wanted) for value in found) / max(wanted, 1e-9)


def deployed_of(net: nn.Module, rows: Rows) -> float:
    """As `deployed`, of a module that cannot be copied."""
    with torch.no_grad():
        return float(loss_of(net.eval(), rows.held_x, rows.held_y))


def table(lines: list[Line]) -> Iterator[str]:
    """A row a kind: medians and the worst over the networks."""
    yield (
        "| kind | networks with a gap | batch statistics | deployed before | "
        + " | ".join(f"{way}: recovered, worst" for way in WAYS)
        + " |"
    )
    yield "|---|---|---|---|" + "---|" * len(WAYS)
    order = list(dict.fromkeys(line.kind for line in lines))
    for kind in order:
        of = [line for line in lines if line.kind == kind and line.has_gap]
        if kind == "healthy" or not of:
            continue
        cells = []
        for way in WAYS:
            shares = [line.recovered(way) for line in of]
            cells.append(f"{median(shares):.1%}, {min(shares):.1%}")
        losses = f"{median(r.batch for r in of):.3g} | {median(r.before for r in of):.3g}"
        total = sum(line.kind == kind for line in lines)
        yield f"| {kind} | {len(of)} of {total} | {losses} | " + " | ".join(cells) + " |"


def summary(lines: list[Line]) -> Iterator[str]:
    """What the table does not show."""
    healthy = [line for line in lines if line.kind == "healthy"]
    moved = [line.after["front-to-back"] - line.before for line in healthy]
    apart = max(line.formats for line in lines)
    yield (
        f"Over the {len(healthy)} networks that are as training left them the held-back loss moves by "
        f"{median(moved):+.2g} (median; {min(moved):+.2g} to {max(moved):+.2g}). The averages of weights, "
        f"written as TorchScript and as ONNX files, give the live module's loss to {apart:.0e}."
    )


def main() -> None:
    """Prints the tables; writes them where asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    lines = []
    for line in measured():
        print(line, flush=True)
        lines.append(line)
    text = "\n".join([*table(lines), "", *summary(lines)])
    print(text)
    if args.write:
        page = DOCUMENT.read_text(encoding="utf-8")
        head, rest = page.split(BEGIN)
        DOCUMENT.write_text(f"{head}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}", encoding="utf-8")


if __name__ == "__main__":
    main()
