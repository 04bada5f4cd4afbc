"""Batches made from the signature alone: seeded, honest about what they assume, or refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

from bnaudit.data.prepare import prepare
from bnaudit.data.synthetic import synthetic_batches
from bnaudit.errors import UsageError
from bnaudit.load.model import InputSpec, LoadedModel
from bnaudit.options import AuditOptions
from tests.data.models import IDS, X, model

if TYPE_CHECKING:
    from bnaudit.data.batch import Batches

IMAGE = InputSpec("x", ("batch", 3, "height", "width"), "float32")


def made(loaded: LoadedModel, static: int | None = None, **options: Any) -> Batches:
    return prepare(AuditOptions(**options), loaded, static)[0]


def refused(loaded: LoadedModel, static: int | None = None, **options: Any) -> UsageError:
    with pytest.raises(UsageError) as caught:
        made(loaded, static, **options)
    return caught.value


def test_the_default_is_four_batches_of_eight() -> None:
    batches = made(model())
    assert [b.inputs[0].shape for b in batches.items] == [(8, 3)] * 4
    info = batches.info
    assert (info.source, info.batches, info.batch_size, info.available) == ("synthetic", 4, 8, None)
    assert info.distribution is not None


def test_a_seed_is_a_batch() -> None:
    first, again, other = (made(model(), seed=s).items for s in (3, 3, 4))
    assert all(torch.equal(a.inputs[0], b.inputs[0]) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0].inputs[0], other[0].inputs[0])
    assert not torch.equal(first[0].inputs[0], first[1].inputs[0])


def test_values_do_not_depend_on_the_formats_dtype() -> None:
    """The same network as ONNX, TorchScript or in half precision is audited on the same samples."""
    specs = [
        InputSpec("input_1", ("N", 3), "float16"),
        InputSpec("x", ("N", 3), "float64"),
        InputSpec("x", None, None),
    ]
    shapes = {"": (8, 3)}
    wanted = made(model()).items[0].inputs[0]
    for spec in specs:
        found = made(model(spec), input_shapes=shapes).items[0].inputs[0]
        assert torch.equal(found, wanted)
    # Drawn in float64, by PyTorch's generator on the CPU: no device or dtype has a say.
    expected = torch.randn(8, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.equal(wanted, expected)


def test_integers_and_booleans_are_zeros_and_ones() -> None:
    mask = InputSpec("mask", ("batch", 4), "bool")
    batch = made(model(IDS, mask)).items[0]
    assert [t.dtype for t in batch.inputs] == [torch.int64, torch.bool]
    assert all(set(np.unique(t.numpy())) == {0, 1} for t in batch.inputs)


def test_free_image_sides_are_assumed_and_noted() -> None:
    batches, notes = prepare(AuditOptions(batch_size=1, batches=1), model(IMAGE), None)
    assert batches.items[0].inputs[0].shape == (1, 3, 224, 224)
    assert [n.split(":")[0] for n in notes] == ["input 'x'", "input 'x'"]
    assert all("224 assumed" in n for n in notes)


def test_the_fixed_batch_size_is_taken_and_cannot_be_left() -> None:
    assert made(model(), static=5).info.batch_size == 5
    assert "at batch size 5 only, not 8" in refused(model(), static=5, batch_size=8).message
    assert "only, not 4" in refused(model(), static=5, input_shapes={"x": (4, 3)}).message


@pytest.mark.parametrize(
    "spec", [InputSpec("x", ("N", "L", 4), "float32"), InputSpec("x", (1, None), "float32")]
)
def test_a_free_dimension_that_cannot_be_guessed_is_refused(spec: InputSpec) -> None:
    error = refused(model(spec))
    assert "dimension 1 of the input x float32" in error.message
    assert error.hint is not None
    assert "--input-shape x:8x..." in error.hint


@pytest.mark.parametrize(
    ("first", "example"),
    [
        (nn.Linear(30, 2), "x:8x30"),
        (nn.Conv1d(5, 2, 1), "x:8x5x128"),
        (nn.Conv2d(3, 2, 1), "x:8x3x224x224"),
        (nn.Conv3d(1, 2, 1), "x:8x1x16x64x64"),
        (nn.ReLU(), "x:8x3x224x224"),
    ],
)
def test_an_unknown_shape_is_asked_for_with_a_guess(first: nn.Module, example: str) -> None:
    error = refused(model(InputSpec("x"), module=nn.Sequential(first)))
    assert "the shape of input 'x' is not in the model" in error.message
    assert error.hint is not None
    assert error.hint.endswith(f"--input-shape {example}")


def test_input_shapes_are_checked() -> None:
    assert made(model(), input_shapes={"x": (5, 3)}).info.batch_size == 5
    assert made(model(), input_shapes={"": (5, 3)}).info.batch_size == 5
    assert "no input 'y'" in refused(model(), input_shapes={"y": (8, 3)}).message
    assert "does not fit the input" in refused(model(), input_shapes={"x": (8, 4)}).message
    assert "does not fit the input" in refused(model(), input_shapes={"x": (8, 3, 1)}).message
    assert "without a name" in refused(model(X, IDS), input_shapes={"": (8, 3)}).message
    both = refused(model(), input_shapes={"x": (8, 3)}, batch_size=4).message
    assert both == "--input-shape asks for batches of 8, --batch-size for 4"
    differing = {"x": (8, 3), "ids": (4, 4)}
    assert "batches of 4, 8" in refused(model(X, IDS), input_shapes=differing).message


def test_an_input_shape_beside_data_is_refused() -> None:
    error = refused(model(), data=np.zeros((4, 3), np.float32), input_shapes={"x": (4, 3)})
    assert "the data has shapes of its own" in error.message


def test_labels_need_data() -> None:
    assert refused(model(), labels="labels").message == "labels without data"


@pytest.mark.parametrize("rows", [10**13, 10**30])
def test_a_batch_that_no_memory_holds_is_refused(rows: int) -> None:
    error = refused(model(), input_shapes={"x": (rows, 3)})
    assert error.message == f"no memory for 4 synthetic batches of {rows}x3"


@pytest.mark.parametrize(
    ("inputs", "told"),
    [
        ((X,), "standard normal"),
        ((IDS,), "uniform {0, 1} (integer and boolean inputs)"),
        (
            (X, IDS),
            "standard normal (floating inputs), uniform {0, 1} (integer and boolean inputs)",
        ),
    ],
)
def test_only_what_was_drawn_is_told(inputs: tuple[InputSpec, ...], told: str) -> None:
    batches, _ = synthetic_batches(model(*inputs), {}, 4, 2, 0, None)
    assert batches.info.distribution == told
