"""The libraries that a watch writes to, for real: what they store is read back with their own readers.

    python -m venv peers && peers/bin/pip install . tensorboard wandb mlflow-skinny lightning \
        'transformers[torch]'
    peers/bin/python -m bench.watch.peers

Weights & Biases runs offline and MLflow in a folder; nothing is sent anywhere. A library that is not there is
passed over, and named.
"""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

import bnaudit
from bnaudit import watching


def network() -> nn.Module:
    """A BatchNorm between two linear layers."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(20, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))


def trained(to: Any, steps: int = 5, after: Any = None) -> None:
    """A training that is watched at every second step."""
    net = network().train()
    with bnaudit.watch(net, every=2, to=to) as watch:
        for _ in range(steps):
            watch.loss(net(torch.randn(32, 20)).square().mean()).backward()
            if after is not None:
                after()


def tensorboard(folder: Path) -> None:
    """Scalars, read by TensorBoard's own accumulator."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trained(watching.TensorBoard(folder / "tb"))
    found = EventAccumulator(str(folder / "tb")).Reload()
    expect([event.step for event in found.Scalars("bnaudit/batch_gain/1")], [0, 2, 4])
    expect("bnaudit/loss" in found.Tags()["scalars"], True)


def wandb(folder: Path) -> None:
    """An offline run, beside metrics of the training's own."""
    os.environ |= {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_DIR": str(folder)}
    import wandb as library

    run = library.init(project="watch", dir=str(folder))
    trained(watching.WandB(), after=lambda: run.log({"mine": 1.0}))
    expect(run.step, 5)  # the caller's own steps, one a log
    expect(run.summary["bnaudit/step"], 4)
    expect(run.summary["bnaudit/measured/1"] > 0, True)
    run.finish()
    expect(len(list(folder.rglob("run-*.wandb"))), 1)


def mlflow(folder: Path) -> None:
    """A store of files, read by MLflow's client."""
    os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"  # mlflow 3 refuses its own folders otherwise
    import mlflow as library

    library.set_tracking_uri((folder / "mlruns").as_uri())
    with library.start_run() as run:
        trained(watching.MLflow())
    client = library.MlflowClient()
    history = client.get_metric_history(run.info.run_id, "bnaudit/batch_gain/1")
    expect([metric.step for metric in history], [0, 2, 4])


def lightning(folder: Path) -> None:
    """A trainer with two batches an update, stopped and taken up again."""
    import lightning.pytorch as library

    class Module(library.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.net = network()

        def training_step(self, batch: Any, _: int) -> Any:
            return self.net(batch).square().mean()

        def validation_step(self, batch: Any, _: int) -> None:
            self.net(batch)

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), 0.01)

    rows: Any = [torch.randn(20) for _ in range(256)]
    data = torch.utils.data.DataLoader(rows, batch_size=32)
    path, last = folder / "lightning.jsonl", folder / "last.ckpt"
    for epochs in (1, 2):
        trainer = library.Trainer(
            max_epochs=epochs, accumulate_grad_batches=2, logger=False, accelerator="cpu",
            enable_progress_bar=False, enable_model_summary=False, default_root_dir=str(folder),
            callbacks=[watching.lightning_callback(to=path, every=2)],
        )  # fmt: skip
        trainer.fit(Module(), data, data, ckpt_path=last if last.exists() else None)
        trainer.save_checkpoint(last)
    report = bnaudit.trend(path)
    expect([moment.place for moment in report.read], [0, 2, 4, 6])
    expect(all(isinstance(moment.loss, float) for moment in report.read), True)
    expect(bnaudit.trend(last).read[0].place, 8)


def transformers(folder: Path) -> None:
    """A trainer with two batches an update, and its checkpoints as a run."""
    import transformers as library

    class Config(library.PretrainedConfig):  # type: ignore[misc]
        model_type = "watched"

    class Model(library.PreTrainedModel):  # type: ignore[misc]
        config_class = Config

        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.net = network()
            self.post_init()

        def forward(self, x: Any, labels: Any = None) -> Any:
            y = self.net(x)
            return {"loss": nn.functional.cross_entropy(y, labels), "logits": y}

        def _init_weights(self, module: Any) -> None:
            """Keeps them."""

    rows = [{"x": torch.randn(20), "labels": torch.tensor(i % 3)} for i in range(128)]
    path = folder / "trainer.jsonl"
    arguments = library.TrainingArguments(
        str(folder / "hf"), per_device_train_batch_size=8, gradient_accumulation_steps=2,
        num_train_epochs=1, report_to=[], save_steps=2, logging_steps=100, use_cpu=True,
        disable_tqdm=True,
    )  # fmt: skip
    library.Trainer(
        model=Model(Config()), args=arguments, train_dataset=rows,
        callbacks=[watching.trainer_callback(to=path, every=2)],
    ).train()  # fmt: skip
    expect([moment.place for moment in bnaudit.trend(path).read], [0, 2, 4, 6])
    expect([moment.place for moment in bnaudit.trend(folder / "hf").read], [2, 4, 6, 8])


def expect(found: Any, wanted: Any) -> None:
    """Ends where they differ."""
    if found != wanted:
        raise SystemExit(f"found {found}, not {wanted}")


PACKAGES = {
    tensorboard: "tensorboard", wandb: "wandb", mlflow: "mlflow-skinny", lightning: "lightning",
    transformers: "transformers",
}  # fmt: skip


def main() -> None:
    """A line a library."""
    warnings.simplefilter("ignore")  # theirs
    for run, package in PACKAGES.items():
        if sys.argv[1:] and run.__name__ not in sys.argv[1:]:
            continue
        try:
            importlib.import_module(run.__name__)
        except ImportError as error:
            print(f"{package}: not there ({error})")
            continue
        with tempfile.TemporaryDirectory() as folder:
            run(Path(folder))
        print(f"{package} {version(package)}: ok", flush=True)


if __name__ == "__main__":
    main()
