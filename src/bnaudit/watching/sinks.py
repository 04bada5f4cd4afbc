"""Where records go. A target that fails while a network trains is dropped, with a warning."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from bnaudit.errors import UsageError, first_line
from bnaudit.records.values import Skipped
from bnaudit.render.json_v1 import line_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bnaudit.records.training import WatchRecord

    Target: TypeAlias = "str | os.PathLike[str] | Callable[[WatchRecord], Any] | Sink"

QUANTITIES = ("gain", "batch_gain", "measured", "predicted", "removed", "leak", "dead_gamma")
"""What dashboards get of each layer; the lines have everything."""
_MARK = b'{"schema":"bnaudit.watch/'


class Sink(Protocol):
    """Takes records."""

    name: str

    def open(self) -> None:
        """Makes ready.

        Raises:
            UsageError: it cannot be written.
        """

    def write(self, record: WatchRecord) -> None:
        """Takes one."""

    def close(self) -> None:
        """The watch ends."""


def sinks_of(targets: Target | Sequence[Target]) -> list[Sink]:
    """The targets, ready; where one cannot be, none is left open.

    Raises:
        UsageError: there is none, one is nothing that takes records, or it cannot be written.
    """
    several = list(targets) if isinstance(targets, (list, tuple)) else [targets]
    sinks = [_sink(target) for target in several]
    if not sinks:
        raise UsageError("to= names nothing", hint='to="run.jsonl" writes lines of JSON')
    for place, sink in enumerate(sinks):
        try:
            sink.open()
        except BaseException:
            for other in sinks[:place]:
                other.close()
            raise
    return sinks


def _sink(target: Any) -> Sink:
    if isinstance(target, (str, os.PathLike)):
        return JsonLines(target)
    if all(hasattr(target, method) for method in ("open", "write", "close", "name")):
        found: Sink = target
        return found
    if callable(target):
        return _Function(target)
    raise UsageError(
        f"to={type(target).__name__} takes no records",
        hint="a path, a function of a record, or one of bnaudit.watching: TensorBoard, WandB, MLflow",
    )


class _Function:
    """A function of the caller's."""

    def __init__(self, function: Callable[[WatchRecord], Any]) -> None:
        self.name = getattr(function, "__qualname__", type(function).__name__)
        self._function = function

    def open(self) -> None:
        """It is ready."""

    def write(self, record: WatchRecord) -> None:
        """Calls it."""
        self._function(record)

    def close(self) -> None:
        """It is the caller's."""


class JsonLines:
    """A file of JSON lines, which `bnaudit trend` reads. Lines go behind those that are there."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.name = str(self.path)
        self._handle: int | None = None

    def open(self) -> None:
        """Opens it to append.

        Raises:
            UsageError: it cannot be written, or holds something else.
        """
        try:
            self._handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
            found = os.fstat(self._handle)
            size = found.st_size if stat.S_ISREG(found.st_mode) else 0
            ours = not size or os.pread(self._handle, len(_MARK), 0) == _MARK
            if ours and size and os.pread(self._handle, 1, size - 1) != b"\n":
                os.write(self._handle, b"\n")  # a line that was cut off stays a line of its own
        except OSError as error:
            self.close()
            raise UsageError(
                f"{self.path}: cannot be written ({error.strerror})", hint="name another file"
            ) from error
        if not ours:
            self.close()
            raise UsageError(
                f"{self.path}: holds something else than lines of bnaudit.watch",
                hint="name another file",
            )

    def write(self, record: WatchRecord) -> None:
        """One line, in one call of the system."""
        if self._handle is None:
            raise ValueError("the file is closed")
        data = (line_text(record) + "\n").encode()
        if os.write(self._handle, data) != len(data):
            raise OSError("the disk is full")

    def close(self) -> None:
        """Closes it."""
        if self._handle is not None:
            handle, self._handle = self._handle, None
            empty = os.fstat(handle).st_size == 0
            os.close(handle)
            if empty and self.path.is_file():
                self.path.unlink()


def numbers(record: WatchRecord) -> dict[str, float]:
    """Tag -> number, of those that dashboards get: "gain/layer1.bn1", "loss"."""
    found: dict[str, float] = {}
    if not isinstance(record.loss, Skipped):
        found["loss"] = record.loss
    for quantity in QUANTITIES:
        for layer in record.layers:
            value = getattr(layer, quantity)
            if not isinstance(value, Skipped):
                found[f"{quantity}/{layer.name}"] = float(value)
    return found


def missing(package: str, extra: str) -> UsageError:
    """What to say where an optional package is not there."""
    return UsageError(f"{package} is not installed", hint=f"pip install 'bnaudit[{extra}]'")


class TensorBoard:
    """Scalars for TensorBoard: "bnaudit/gain/layer1.bn1" and so on.

    Args:
        writer: a SummaryWriter, which stays open, or the folder for one of its own.
    """

    name = "TensorBoard"

    def __init__(self, writer: Any) -> None:
        self._given = writer
        self._writer: Any = writer if hasattr(writer, "add_scalar") else None

    def open(self) -> None:
        """Makes the writer, where a folder was given.

        Raises:
            UsageError: tensorboard is not installed, or the folder cannot be written.
        """
        if self._writer is not None:
            return
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise missing("tensorboard", "tensorboard") from error
        try:
            self._writer = SummaryWriter(str(self._given))
        except OSError as error:
            raise UsageError(
                f"{self._given}: cannot be written ({error.strerror or first_line(error)})",
                hint="name another folder",
            ) from error

    def write(self, record: WatchRecord) -> None:
        """A scalar for each number."""
        for tag, value in numbers(record).items():
            self._writer.add_scalar(f"bnaudit/{tag}", value, record.step)

    def close(self) -> None:
        """Writes out; closes the writer, where it is the watch's own."""
        if self._writer is not None:
            self._writer.flush()
            if self._writer is not self._given:
                self._writer.close()
                self._writer = None


class WandB:
    """Metrics for Weights & Biases, beside those that the training logs next.

    They have an axis of their own, "bnaudit/step", and wait for the caller's next `log`: a `log` of theirs
    would move the run's step.

    Args:
        run: the run; that of `wandb.init` where it is left out.
    """

    name = "Weights & Biases"

    def __init__(self, run: Any = None) -> None:
        self._run = run

    def open(self) -> None:
        """Finds the run.

        Raises:
            UsageError: wandb is not installed, or no run is on.
        """
        if self._run is None:
            try:
                import wandb
            except ImportError as error:
                raise missing("wandb", "wandb") from error
            self._run = wandb.run
        if self._run is None:
            raise UsageError("no run of Weights & Biases is on", hint="call wandb.init() before")
        self._run.define_metric("bnaudit/step")
        self._run.define_metric("bnaudit/*", step_metric="bnaudit/step")

    def write(self, record: WatchRecord) -> None:
        """All numbers, to go with the run's next step."""
        found = {f"bnaudit/{tag}": value for tag, value in numbers(record).items()}
        self._run.log({"bnaudit/step": record.step, **found}, commit=False)

    def close(self) -> None:
        """The run is the caller's."""


class MLflow:
    """Metrics for MLflow, by step.

    Args:
        run_id: of the run; the active one where it is left out.
    """

    name = "MLflow"

    def __init__(self, run_id: str | None = None) -> None:
        self._run_id = run_id
        self._client: Any = None

    def open(self) -> None:
        """Finds the run.

        Raises:
            UsageError: mlflow is not installed, or no run is active.
        """
        try:
            import mlflow
        except ImportError as error:
            raise missing("mlflow", "mlflow") from error
        active = mlflow.active_run()
        if self._run_id is None and active is None:
            raise UsageError("no run of MLflow is active", hint="call mlflow.start_run() before")
        self._run_id = self._run_id or active.info.run_id
        self._client = mlflow

    def write(self, record: WatchRecord) -> None:
        """All numbers of the step; of names what MLflow takes."""
        found = {
            re.sub(r"[^\w\-. /]", "_", f"bnaudit/{tag}"): value
            for tag, value in numbers(record).items()
        }
        self._client.log_metrics(found, step=record.step, run_id=self._run_id)

    def close(self) -> None:
        """The run is the caller's."""
