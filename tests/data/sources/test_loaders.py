"""What loaders really yield, imitated where the package is too large for the tests.

Looked at: datasets 5.2.0, webdataset 1.0.2, transformers' BatchEncoding and BatchFeature (a UserDict).
"""

from __future__ import annotations

from collections import UserDict, namedtuple
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from bnaudit.data.prepare import prepare
from bnaudit.data.whole import held, whole_data
from bnaudit.errors import DataError
from bnaudit.load.model import InputSpec
from bnaudit.options import AuditOptions
from bnaudit.user_data import UserData
from tests.data.models import model

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bnaudit.data.batch import Batches

X = torch.arange(120, dtype=torch.float32).reshape(40, 3)
Y = torch.arange(40) % 4
BATCHES = [(X[i : i + 8], Y[i : i + 8]) for i in range(0, 40, 8)]
SPEC = InputSpec("x", ("N", 3), "float32")


def made(data: Any, *inputs: InputSpec, **options: Any) -> Batches:
    return prepare(AuditOptions(data=data, **options), model(*(inputs or (SPEC,))), None)[0]


def rows(batches: Batches) -> list[tuple[float, int]]:
    """Each sample's first number and its label."""
    found = []
    for batch in batches.items:
        assert batch.inputs[0].shape[1:] == (3,)
        found += list(zip(batch.inputs[0][:, 0].tolist(), batch.labels.tolist(), strict=True))
    return found


WHOLE = list(zip(X[:, 0].tolist(), Y.tolist(), strict=True))


class HuggingFace(Dataset[Any]):
    """datasets.Dataset: rows by number and by iteration, plain or formatted; no Mapping."""

    def __init__(self, form: str) -> None:
        self.form = form

    def __len__(self) -> int:
        return 40

    def __getitem__(self, row: int) -> dict[str, Any]:
        x, y, text = X[row], Y[row], f"t{row}"
        forms: dict[str, dict[str, Any]] = {
            "plain": {"features": x.tolist(), "label": int(y), "text": text},
            "torch": {"features": x, "label": y, "text": text},
            "numpy": {"features": x.numpy(), "label": y.numpy()[()], "text": np.str_(text)},
        }
        return forms[self.form]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        yield from (self[row] for row in range(40))

    def iter(self, batch_size: int) -> Iterator[dict[str, Any]]:
        for start in range(0, 40, batch_size):
            part = slice(start, start + batch_size)
            texts = [f"t{row}" for row in range(start, start + batch_size)]
            forms: dict[str, dict[str, Any]] = {
                "plain": {"features": X[part].tolist(), "label": Y[part].tolist(), "text": texts},
                "torch": {"features": X[part], "label": Y[part], "text": texts},
                "numpy": {
                    "features": X[part].numpy(),
                    "label": Y[part].numpy(),
                    "text": np.array(texts),
                },
            }
            yield forms[self.form]


class Web(IterableDataset[Any]):
    """webdataset.WebDataset: samples in the order of the shards; has an inherited __getitem__."""

    def __init__(self, items: Any) -> None:
        self.items = items

    def __len__(self) -> int:
        return 40

    def __iter__(self) -> Iterator[Any]:
        yield from self.items


KEYS = {"__key__": "s", "__url__": "a.tar", "__local_path__": "a.tar"}
Pair = namedtuple("Pair", ["image", "label"])


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(DataLoader(TensorDataset(X, Y), batch_size=8), id="DataLoader"),
        pytest.param([[x, y] for x, y in BATCHES], id="lists"),
        pytest.param([{"image": x, "label": y} for x, y in BATCHES], id="mappings"),
        pytest.param([UserDict(image=x, label=y) for x, y in BATCHES], id="BatchFeature"),
        pytest.param([Pair(x, y) for x, y in BATCHES], id="named tuples"),
        pytest.param([((x,), y) for x, y in BATCHES], id="inputs in a tuple"),
        pytest.param([({"x": x}, y) for x, y in BATCHES], id="inputs in a mapping"),
        pytest.param([(x.numpy(), y.numpy()) for x, y in BATCHES], id="numpy"),
        pytest.param([(list(x), list(y)) for x, y in BATCHES], id="lists of tensors"),
        *(pytest.param(HuggingFace(f).iter(8), id=f"datasets, {f}") for f in ("plain", "torch", "numpy")),
        pytest.param(DataLoader(HuggingFace("torch"), batch_size=8), id="datasets, DataLoader"),
        pytest.param(Web([(x, y.numpy()) for x, y in BATCHES]), id="webdataset, batched"),
        pytest.param(
            Web([{**{k: [v] * 8 for k, v in KEYS.items()}, "pth": x, "cls": y.numpy()} for x, y in BATCHES]),
            id="webdataset, batched mappings",
        ),
        pytest.param(Web(zip(X, Y.tolist(), strict=True)), id="webdataset, samples"),
        pytest.param(
            Web([{**KEYS, "pth": x, "cls": int(y)} for x, y in zip(X, Y, strict=True)]),
            id="webdataset, sample mappings",
        ),
    ],
)  # fmt: skip
def test_batches_in_their_order(data: Any) -> None:
    batches = made(data, batch_size=8)
    assert rows(batches) == WHOLE
    assert (batches.info.batches, batches.info.batch_size) == (5, 8)
    assert batches.labels_from == "the data loader"


@pytest.mark.parametrize(
    "data",
    [TensorDataset(X, Y), HuggingFace("plain"), HuggingFace("torch"), HuggingFace("numpy")],
)
def test_a_data_set_by_number_is_mixed_by_the_seed(data: Any) -> None:
    batches = made(data, batch_size=8)
    assert sorted(rows(batches)) == sorted(WHOLE)
    assert rows(batches) != WHOLE
    assert rows(made(data, batch_size=8)) == rows(batches)
    assert rows(made(data, batch_size=8, seed=1)) != rows(batches)


def test_texts_are_left_out_with_a_note() -> None:
    options = AuditOptions(data=HuggingFace("torch").iter(8))
    _, notes = prepare(options, model(SPEC), None)
    assert "left out, as they are no numbers: text" in notes


def test_several_inputs() -> None:
    specs = (SPEC, InputSpec("mask", ("N",), "int64"))
    mask = torch.ones(8, dtype=torch.int64)
    for data in (
        [(x, mask, y) for x, y in BATCHES],
        [((x, mask), y) for x, y in BATCHES],
        [{"x": x, "mask": mask, "y": y} for x, y in BATCHES],
    ):
        batches = made(data, *specs)
        assert batches.names == ("x", "mask")
        assert rows(batches) == WHOLE


def test_names_and_places_by_map() -> None:
    data = [{"id": torch.arange(8), "picture": x, "kind": y} for x, y in BATCHES]
    with pytest.raises(DataError) as caught:
        made(data)
    assert "--map x=id" in str(caught.value.hint)
    options = AuditOptions(data=data, map={"x": "picture"}, labels="kind")
    batches, notes = prepare(options, model(SPEC), None)
    assert rows(batches) == WHOLE
    assert "left out, as --map does not name them: id" in notes
    places = [(torch.arange(8), x, y) for x, y in BATCHES]
    assert rows(made(places, map={"x": "1"}, labels="2")) == WHOLE
    with pytest.raises(DataError, match=r"no array '7' in the data \(it has: 0, 1, 2\)"):
        made(places, map={"x": "7"})


@pytest.mark.parametrize("several", [True, False])
def test_pictures_are_refused_with_the_way(several: bool) -> None:
    picture = Image.new("RGB", (4, 4))
    item = {"image": [picture] * 2 if several else picture, "label": [0, 1]}
    with pytest.raises(DataError, match="holds PIL images, not numbers") as caught:
        made([item], InputSpec("x", ("N", 3, 4, 4), "float32"))
    assert "transforms.ToTensor()" in str(caught.value.hint)


def test_samples_of_different_shapes_are_told() -> None:
    with pytest.raises(DataError, match=r"samples of different shapes \(\[3\], \[4\]\)"):
        made(Web([(torch.zeros(3), 0), (torch.zeros(4), 1)] * 4))


class Fails(Dataset[Any]):
    def __len__(self) -> int:
        return 5

    def __getitem__(self, row: int) -> Any:
        raise KeyError(row)


def test_a_data_set_that_fails_is_told() -> None:
    with pytest.raises(DataError, match=r"the iterable failed after 0 batches \(KeyError"):
        made(Fails())


def shuffled() -> Any:
    return DataLoader(TensorDataset(X, Y), batch_size=8, shuffle=True)


def test_the_seed_is_set_before_loaders_are_made_and_put_back_after() -> None:
    data = UserData("loader.py:shuffled", shuffled)
    torch.manual_seed(5)
    np.random.seed(5)
    before = torch.get_rng_state()
    one = made(data)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    two, other = made(data), made(data, seed=1)
    assert rows(one) == rows(two) != rows(other)
    assert one.info.digest == two.info.digest != other.info.digest
    assert (one.info.source, one.info.paths) == ("function", ("loader.py:shuffled",))
    assert str(one.info.digest).startswith("sha256:")


class Draws(Dataset[Any]):
    """Augments with numpy and random in workers, as people do."""

    def __len__(self) -> int:
        return 40

    def __getitem__(self, row: int) -> Any:
        import random

        return X[row] + np.random.rand() + random.random(), Y[row]  # noqa: S311


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_workers_draw_alike_too() -> None:
    def loader() -> Any:
        return DataLoader(Draws(), batch_size=8, shuffle=True, num_workers=2)

    one, two = (made(UserData("l.py:loader", loader)).info.digest for _ in range(2))
    assert one == two


def test_the_digest_knows_values_names_types_shapes_and_labels() -> None:
    base = [(X[:8], Y[:8])]
    others: list[Any] = [
        [(X[:8] + 1, Y[:8])],
        [(X[:8].double(), Y[:8])],
        [(X[:8], Y[:8] + 1)],
        [(X[:8],)],
        [(X[:4], Y[:4])],
    ]
    digests = [made(data).info.digest for data in (base, *others)]
    assert len(set(digests)) == len(digests)
    assert made(base, InputSpec("z", ("N", 3), "float32")).info.digest not in digests
    assert made({"x": X[:8], "labels": Y[:8]}).info.digest == digests[0]


def test_a_recalibration_keeps_where_its_batches_come_from() -> None:
    options = held(AuditOptions(data=UserData("loader.py:shuffled", shuffled)))
    batches, _ = whole_data(options, model(SPEC), None)
    assert sorted(rows(batches)) == sorted(WHOLE)
    assert (batches.info.source, batches.info.paths) == ("function", ("loader.py:shuffled",))
    again = held(AuditOptions(data=UserData("loader.py:shuffled", shuffled)))
    assert whole_data(again, model(SPEC), None)[0].info.digest == batches.info.digest


def test_batches_without_labels_are_no_arrays() -> None:
    """A list of tensors is arrays; what an iterable gave one by one is batches."""
    options = held(AuditOptions(data=(x for x, _ in BATCHES)))
    assert whole_data(options, model(SPEC), None)[0].info.batches == 5


def test_data_without_end_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bnaudit.data.taken.free_memory", lambda _: 10_000)

    def endless() -> Iterator[Any]:
        while True:
            yield X, Y

    with pytest.raises(DataError, match="fill the memory, and there may be more"):
        held(AuditOptions(data=endless()))
    assert len(held(AuditOptions(data=endless(), batches=3)).data) == 3
