"""Where records go: files that `trend` reads, and stand-ins that take what the real libraries take.

The real ones are run by `python -m bench.watch.peers`; docs/watch.md says which versions were.
"""

from __future__ import annotations

import json
import sys
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from jsonschema import Draft202012Validator

import bnaudit
from bnaudit.errors import UsageError
from bnaudit.render.json_v1 import schema_text
from bnaudit.watching import MLflow, TensorBoard, WandB, lightning_callback, trainer_callback
from tests.training.test_watch import passes, small, untouched

if TYPE_CHECKING:
    from pathlib import Path

    from bnaudit.records.training import WatchRecord


def test_a_file_of_lines(tmp_path: Path) -> None:
    path, net = tmp_path / "run.jsonl", small()
    for step in (0, 2):
        with bnaudit.watch(net, every=1, step=step, to=str(path)):
            passes(net, 2)
    lines = path.read_text().splitlines()
    validator = Draft202012Validator(json.loads(schema_text("watch")))
    for line in lines:
        validator.validate(json.loads(line))
    assert [json.loads(line)["step"] for line in lines] == [0, 1, 2, 3]
    with path.open("ab") as file:
        file.write(lines[0].encode()[:50])
    with bnaudit.watch(net, every=1, step=4, to=path):
        passes(net, 1)
    report = bnaudit.trend(path)
    assert [m.place for m in report.read] == [0, 1, 2, 3, 4]
    assert [(m.line, m.missing) for m in report.moments if m.missing] == [(5, "no JSON")]
    assert report.network_of == "batch"


def test_files_that_cannot_be_written(tmp_path: Path) -> None:
    net = small()
    other = tmp_path / "mine.txt"
    other.write_text("mine")
    good = tmp_path / "good.jsonl"
    for target in (tmp_path, tmp_path / "none" / "x.jsonl", other):
        with pytest.raises(UsageError, match=r"cannot be written|holds something else"):
            bnaudit.watch(net, to=[good, target])
        assert untouched(net)
    assert other.read_text() == "mine"
    assert not good.exists()


def test_a_target_that_fails_ends_no_training() -> None:
    net, records = small(), list["WatchRecord"]()

    def full(_: WatchRecord) -> None:
        raise OSError("the disk is full")

    with (
        pytest.warns(UserWarning, match="full takes no more records: the disk is full") as told,
        bnaudit.watch(net, every=1, to=[full, records.append]),
    ):
        passes(net, 3)
    assert len(told) == 1
    assert len(records) == 3


class Writer:
    """`torch.utils.tensorboard.SummaryWriter`, as far as scalars."""

    def __init__(self) -> None:
        self.scalars: dict[str, list[tuple[int, float]]] = {}
        self.closed = False

    def add_scalar(self, tag: str, scalar_value: float, global_step: int | None = None) -> None:
        assert type(scalar_value) is float
        self.scalars.setdefault(tag, []).append((global_step or 0, scalar_value))

    def flush(self) -> None:
        """As the real one."""

    def close(self) -> None:
        self.closed = True


def test_tensorboard() -> None:
    net, writer = small(), Writer()
    with bnaudit.watch(net, every=2, to=TensorBoard(writer)) as watch:
        for _ in range(3):
            watch.loss(net(torch.randn(8, 1, 8, 8)).square().mean()).backward()
    assert [step for step, _ in writer.scalars["bnaudit/gain/4"]] == [0, 2]
    assert {"bnaudit/loss", "bnaudit/measured/1", "bnaudit/dead_gamma/1"} <= set(writer.scalars)
    assert not writer.closed


class Run:
    """`wandb.Run`: a log with commit=False waits for the next one."""

    def __init__(self) -> None:
        self.axes: dict[str, str | None] = {}
        self.waiting: dict[str, float] = {}
        self.history: list[dict[str, float]] = []

    def define_metric(self, name: str, step_metric: str | None = None) -> None:
        self.axes[name] = step_metric

    def log(self, data: dict[str, float], *, commit: bool = True) -> None:
        self.waiting |= data
        if commit:
            self.history.append(self.waiting)
            self.waiting = {}


def test_weights_and_biases_keeps_the_callers_steps() -> None:
    net, run = small(), Run()
    with bnaudit.watch(net, every=1, to=WandB(run)):
        for _ in range(3):
            passes(net, 1)
            run.log({"mine": 1.0})
    assert len(run.history) == 3
    assert run.history[2]["bnaudit/step"] == 2
    assert run.axes == {"bnaudit/step": None, "bnaudit/*": "bnaudit/step"}


def test_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[tuple[dict[str, float], int, str]] = []
    fake: Any = ModuleType("mlflow")
    fake.active_run = lambda: SimpleNamespace(info=SimpleNamespace(run_id="abc"))
    fake.log_metrics = lambda metrics, step, run_id: logged.append((metrics, step, run_id))
    monkeypatch.setitem(sys.modules, "mlflow", fake)
    net = torch.nn.ModuleDict({"a#b": small()})
    net.forward = net["a#b"].forward
    with bnaudit.watch(net, every=1, to=MLflow()):
        passes(net, 1)
    ((metrics, step, run),) = logged
    assert (step, run) == (0, "abc")
    assert "bnaudit/gain/a_b.1" in metrics
    fake.active_run = lambda: None
    with pytest.raises(UsageError, match="no run of MLflow is active"):
        bnaudit.watch(net, to=MLflow())


@pytest.mark.parametrize(
    ("package", "make"),
    [
        ("tensorboard", lambda: TensorBoard("runs")),
        ("wandb", WandB),
        ("mlflow", MLflow),
        ("lightning", lambda: lightning_callback(to=print)),
        ("transformers", lambda: trainer_callback(to=print)),
    ],
)
def test_a_missing_extra_is_one_line(
    monkeypatch: pytest.MonkeyPatch, package: str, make: Any
) -> None:
    names = (package, "lightning.pytorch", "pytorch_lightning", "torch.utils.tensorboard")
    for name in names:
        monkeypatch.setitem(sys.modules, name, None)
    net = small()
    with pytest.raises(UsageError, match=f"{package} is not installed") as raised:
        bnaudit.watch(net, to=make())
    assert raised.value.hint == f"pip install 'bnaudit[{package}]'"
    assert untouched(net)


def test_the_callback_of_lightning(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its hooks, in the order and with the arguments of lightning 2.x's loops."""
    fake: Any = ModuleType("lightning.pytorch")
    fake.Callback = object
    monkeypatch.setitem(sys.modules, "lightning", ModuleType("lightning"))
    monkeypatch.setitem(sys.modules, "lightning.pytorch", fake)
    net, records, trainer = small(), list["WatchRecord"](), SimpleNamespace(global_step=6)
    callback = lightning_callback(to=records.append, every=2)
    callback.on_train_start(trainer, net)
    for batch in range(4):
        callback.on_train_batch_start(trainer, net, None, batch)
        loss = net[1:](net[0](torch.randn(8, 1, 8, 8))).square().mean()  # the module is not called
        callback.on_before_backward(trainer, net, loss)
        loss.backward()
        callback.on_train_batch_end(trainer, net, None, None, batch)
        trainer.global_step += batch % 2  # two batches an update
    callback.on_exception(trainer, net, ValueError())
    callback.on_train_end(trainer, net)
    assert untouched(net)
    assert [(r.step, r.counts, r.passes) for r in records] == [(6, "given", 0)]
    assert all(isinstance(layer.measured, float) for layer in records[0].layers)
    assert isinstance(records[0].loss, float)


def test_the_callback_of_the_trainer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its hooks, in the order and with the arguments of transformers 4.x's `CallbackHandler`."""
    fake: Any = ModuleType("transformers")
    fake.TrainerCallback = object
    monkeypatch.setitem(sys.modules, "transformers", fake)
    net, records, state = small(), list["WatchRecord"](), SimpleNamespace(global_step=0)
    callback = trainer_callback(to=records.append, every=2)
    callback.on_train_begin(None, state, None, model=net, optimizer=None)
    for _ in range(3):
        callback.on_step_begin(None, state, None, model=net)
        passes(net, 2)
        state.global_step += 1
    callback.on_train_end(None, state, None, model=net)
    assert untouched(net)
    assert [(r.step, r.passes) for r in records] == [(0, 0), (2, 4)]
