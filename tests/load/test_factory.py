"""Networks of the user's own code: what may be named, how weights find their way in, what can fail."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn

import bnaudit
from bnaudit.errors import BnauditError, InputError, UsageError
from bnaudit.load import Loading, load
from bnaudit.load.reference import factory_reference
from tests.load.files import MLP

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

CODE = """
import torch
from torch import nn
from sibling import WIDTH

class Net(nn.Module):
    def __init__(self, width=WIDTH, classes=3):
        super().__init__()
        self.fc = nn.Linear(4, width)
        self.bn = nn.BatchNorm1d(width)
        self.head = nn.Linear(width, classes)
    def forward(self, x):
        return self.head(torch.relu(self.bn(self.fc(x))))

net = Net()
class Holder:
    make = staticmethod(lambda: Net())
def make(width=WIDTH, *, classes=3): return Net(width, classes)
def parallel(): return nn.DataParallel(Net())
def needs(depth): return Net()
def meta():
    with torch.device("meta"):
        return Net()
def lazy():
    return nn.Sequential(nn.LazyLinear(8), nn.LazyBatchNorm1d(), nn.Linear(8, 3))
def broken(): raise RuntimeError("out of\\nluck")
def leaves(): raise SystemExit(0)
def several(): return Net(), 3
def program(): return torch.export.export(Net().eval(), (torch.zeros(8, 4),))
VALUE = 3
"""
X = torch.randn(32, 4, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with code, as the current one; the imports are undone."""
    before, path = set(sys.modules), list(sys.path)
    (tmp_path / "sibling.py").write_text("WIDTH = 8\n")
    (tmp_path / "nets_here.py").write_text(CODE)
    package = tmp_path / "pack"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "nets.py").write_text("from nets_here import Net, make\n")
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name in {"sibling", "nets_here", "pack", "pack.nets", "bad_import_here", "elsewhere"}:
            del sys.modules[name]
    sys.path[:] = path


def make(module: str, **loading: Any) -> nn.Module:
    return load(module, Loading(**loading)).module


def state(own: Path) -> dict[str, Tensor]:
    """Weights that no factory makes."""
    net = make("nets_here:Net")
    generator = torch.Generator().manual_seed(7)
    values = {
        name: torch.rand(t.shape, generator=generator) + 0.5 if t.is_floating_point() else t + 5
        for name, t in net.state_dict().items()
    }
    torch.save(values, own / "plain.pt")
    return values


def same(net: nn.Module, wanted: Mapping[str, Tensor], prefix: str = "") -> bool:
    found = net.state_dict()
    return all(torch.equal(found[prefix + name], wanted[name]) for name in wanted)


@pytest.mark.parametrize(
    "text",
    [
        "nets_here:net",
        "nets_here:Net",
        "nets_here:make",
        "nets_here:Holder.make",
        "nets_here.py:make",
        "./nets_here.py:Net",
        "pack.nets:make",
        "pack/nets.py:Net",
    ],
)
def test_what_may_be_named(own: Path, text: str) -> None:
    report = bnaudit.audit(text, data=X)
    assert [layer.label for layer in report.layers] == ["bn"]
    assert (report.model.path, report.model.format) == (text, "module")
    assert report.model.notes == (
        "no weights were given: the network is audited as its factory made it",
    )


def test_the_same_command_makes_the_same_network(own: Path) -> None:
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    reports = [bnaudit.audit("nets_here:make", data=X, seed=s) for s in (1, 1, 2)]
    assert torch.equal(before, torch.random.get_rng_state())
    first, second, other = (r.layers[0].first_order for r in reports)
    assert first == second != other


def test_arguments_reach_the_factory(own: Path) -> None:
    net = make("nets_here:make", kwargs={"width": 5, "classes": 2})
    assert net.get_parameter("head.weight").shape == (2, 5)


def test_a_file_with_a_colon_is_a_file(own: Path) -> None:
    (own / "nets_here:net").write_bytes((MLP / "model.onnx").read_bytes())
    assert factory_reference("nets_here:net") is None
    assert load("nets_here:net").format == "onnx"


@pytest.mark.parametrize(
    "text", ["model.onnx", "C:\\models\\m.onnx", "a:b:", ":x", "a b:c", "m.onnx:2", "x" * 5000, ""]
)
def test_what_is_no_reference(text: str) -> None:
    assert factory_reference(text) is None


WRAPPED = {
    "plain": lambda s: s,
    "DataParallel": lambda s: {f"module.{k}": v for k, v in s.items()},
    "compiled": lambda s: {f"_orig_mod.{k}": v for k, v in s.items()},
    "compiled inside": lambda s: {k.replace("fc.", "fc._orig_mod."): v for k, v in s.items()},
    "both": lambda s: {f"module._orig_mod.{k}": v for k, v in s.items()},
    "entry": lambda s: {"epoch": 3, "model": s, "optimizer": {"state": {0: torch.ones(3)}}},
    "lightning": lambda s: {
        "state_dict": {**{f"model.{k}": v for k, v in s.items()}, "loss.w": torch.ones(2)}
    },
    "ema alone": lambda s: {"ema_state_dict": {f"module.{k}": v for k, v in s.items()}},
    "averaged": lambda s: {"n_averaged": torch.tensor(4), **{f"module.{k}": v for k, v in s.items()}},
    "beside its average": lambda s: {
        "model": s, "model_ema": {k: torch.zeros_like(v) for k, v in s.items()}
    },
    "averages in one dict": lambda s: {
        **{f"net.{k}": v for k, v in s.items()},
        **{f"ema.{k}": torch.zeros_like(v) for k, v in s.items()},
    },
}  # fmt: skip


@pytest.mark.parametrize("wrapper", WRAPPED)
def test_wrappers_are_taken_off(own: Path, wrapper: str) -> None:
    wanted = state(own)
    wrap: Any = WRAPPED[wrapper]
    torch.save(wrap(wanted), own / "w.pt")
    assert same(make("nets_here:make", weights=own / "w.pt"), wanted)


def test_a_wrapped_network_takes_plain_weights(own: Path) -> None:
    wanted = state(own)
    assert same(make("nets_here:parallel", weights=own / "plain.pt"), wanted, "module.")


def test_safetensors_with_integers(own: Path) -> None:
    wanted = state(own)
    codes = {torch.float32: "F32", torch.int64: "I64"}
    header: dict[str, Any] = {}
    data = b""
    for name, tensor in wanted.items():
        raw = tensor.numpy().tobytes()
        place = [len(data), len(data) + len(raw)]
        header[name] = {
            "dtype": codes[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": place,
        }
        data += raw
    text = json.dumps(header).encode()
    (own / "w.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + data)
    assert same(make("nets_here:make", weights=own / "w.safetensors"), wanted)


def test_networks_without_values_take_them_from_the_file(own: Path) -> None:
    wanted = state(own)
    assert same(make("nets_here:meta", weights=own / "plain.pt"), wanted)
    with pytest.raises(InputError, match=r"'fc\.weight' is on the meta device"):
        make("nets_here:meta")
    lazy = {
        k.replace("fc", "0").replace("bn", "1").replace("head", "2"): v for k, v in wanted.items()
    }
    torch.save(lazy, own / "lazy.pt")
    assert same(make("nets_here:lazy", weights=own / "lazy.pt"), lazy)


def test_onnx_and_torchscript_files_have_weights_too(own: Path) -> None:
    sys.path.insert(0, str(MLP.parents[1]))
    nets = [
        make("fixtures.nets:TabularMlp", weights=MLP / file)
        for file in ("state_dict.pt", "scripted.pt", "model.onnx")
    ]
    floats = {k: v for k, v in nets[0].state_dict().items() if v.is_floating_point()}
    assert same(nets[1], nets[0].state_dict())
    assert same(nets[2], floats)


def test_counters_may_be_missing(own: Path) -> None:
    wanted = {k: v for k, v in state(own).items() if "num_batches" not in k}
    torch.save(wanted, own / "w.pt")
    assert same(make("nets_here:make", weights=own / "w.pt"), wanted)


@pytest.mark.parametrize(
    ("change", "fact", "note"),
    [
        (
            lambda s: {k: v for k, v in s.items() if "head" not in k},
            "it lacks 2 of the network's tensors (head.weight, head.bias)",
            "left as the factory made them: 2 (head.weight, head.bias)",
        ),
        (
            lambda s: {**s, "old.weight": torch.ones(3)},
            "it has 1 that the network lacks (old.weight)",
            "tensors left out: 1 (old.weight)",
        ),
    ],
)
def test_names_that_do_not_match_are_listed_or_left(
    own: Path, change: Any, fact: str, note: str
) -> None:
    torch.save(change(state(own)), own / "w.pt")
    with pytest.raises(InputError) as caught:
        make("nets_here:make", weights=own / "w.pt")
    assert fact in caught.value.message
    assert "--no-strict" in str(caught.value.hint)
    notes = bnaudit.audit("nets_here:make", weights="w.pt", strict=False, data=X).model.notes
    assert any(note in text for text in notes)


@pytest.mark.parametrize("strict", [True, False])
def test_other_networks_are_refused_either_way(own: Path, strict: bool) -> None:
    state(own)
    with pytest.raises(InputError, match=r"head\.weight is 3x8 in the file and 5x8 in the network"):
        make("nets_here:make", kwargs={"classes": 5}, weights=own / "plain.pt", strict=strict)
    torch.save(nn.LSTM(3, 3).state_dict(), own / "other.pt")
    with pytest.raises(InputError, match="none of its 4 tensors"):
        make("nets_here:make", weights=own / "other.pt", strict=strict)


FAILURES: list[tuple[str, dict[str, Any], str]] = [
    ("nets_here:nosuch", {}, "nets_here: has no 'nosuch'"),
    ("nets_here:VALUE", {}, "but of type int"),
    ("nets_here:broken", {}, "fails (RuntimeError: out of luck)"),
    ("nets_here:leaves", {}, "fails (SystemExit: 0)"),
    ("nets_here:several", {}, "returned a tuple, not a torch.nn.Module"),
    ("nets_here:program", {}, "returned a ExportedProgram"),
    ("nets_here:needs", {}, "missing a required argument: 'depth'"),
    ("nets_here:make", {"kwargs": {"depth": 3}}, "unexpected keyword argument 'depth'"),
    ("nets_here:net", {"kwargs": {"a": 1}}, "is a module already"),
    ("nosuch_here:net", {}, "no Python module 'nosuch_here' is installed or in this folder"),
    ("pack.nosuch:net", {}, "no Python module 'pack.nosuch'"),
    ("nosuch_here.py:net", {}, "nosuch_here.py: no such file"),
    ("bad_import_here.py:net", {}, "bad_import_here.py: fails to import (ZeroDivisionError"),
    ("bad_import_here:net", {}, "bad_import_here: fails to import (ZeroDivisionError"),
    ("inside.py:net", {}, "attempted relative import"),
    ("elsewhere.py:net", {}, "fails to import (no module 'not_installed')"),
]


@pytest.mark.parametrize(("text", "loading", "fact"), FAILURES)
def test_failures_are_one_line_and_told_as_the_users_own(
    own: Path, text: str, loading: dict[str, Any], fact: str
) -> None:
    (own / "bad_import_here.py").write_text("1 / 0\n")
    (own / "inside.py").write_text("from .sibling import WIDTH\n")
    (own / "elsewhere.py").write_text("import not_installed\n")
    with pytest.raises(BnauditError) as caught:
        load(text, Loading(**loading))
    assert fact in caught.value.message
    assert "\n" not in caught.value.message
    assert str(own) not in caught.value.message
    assert (caught.value.exit_code, bool(caught.value.hint)) == (2, True)


@pytest.mark.parametrize("loading", [{"weights": "w.pt"}, {"kwargs": {"a": 1}}])
def test_weights_and_arguments_are_for_factories(loading: dict[str, Any]) -> None:
    for model in (MLP / "model.onnx", nn.BatchNorm1d(3)):
        with pytest.raises(UsageError, match="for a model that has its own"):
            bnaudit.audit(model, **loading)


def test_weights_of_a_pickled_module_are_read_without_its_class(own: Path) -> None:
    saved = make("nets_here:net")
    torch.save(saved, own / "pickled.pt")
    loaded = make("nets_here:Net", weights=own / "pickled.pt")
    for name, tensor in saved.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)


def test_a_name_that_is_not_there_is_near_one_that_is_and_none_is_cut_silently(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"make_{i}" for i in range(11)]
    code = "\n".join(f"def {name}(): ..." for name in names)
    (tmp_path / "many_makers.py").write_text(code, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as caught:
        load("many_makers.py:mak_3")
    assert caught.value.hint == f"did you mean 'make_3'? it has: {', '.join(names[:8])} and 3 more"


def networks(wanted: dict[str, Any]) -> dict[str, Any]:
    """Another network first, then the wanted one, then its average."""
    other = {f"body.{name}": torch.ones(7, 7) for name in ("a.weight", "b.weight", "c.weight")}
    other |= {f"bn.running_{part}": torch.ones(7) for part in ("mean", "var")}
    average = {name: tensor + 1 for name, tensor in wanted.items()}
    return {"model": other, "net": wanted, "model_ema": average, "epoch": 3}


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {f"module.{k}": v for k, v in s.items()}])
def test_of_several_networks_the_one_that_fits_is_loaded_or_the_one_that_is_asked_for(
    own: Path, wrap: Any
) -> None:
    wanted = state(own)
    content = networks(wanted)
    torch.save({k: wrap(v) if isinstance(v, dict) else v for k, v in content.items()}, own / "w.pt")
    loaded = load("nets_here:make", Loading(weights=own / "w.pt"))
    assert same(loaded.module, wanted)
    (note,) = (n for n in loaded.notes if "left out: --entry KEY loads another" in n)
    assert "from its entry 'net'; model, model_ema left out" in note
    for entry in ("net", "model_ema"):
        chosen = load("nets_here:make", Loading(weights=own / "w.pt", entry=entry))
        assert same(chosen.module, content[entry])
    for entry, told in (("model", "does not fit the network"), ("nosuch", "has no entry 'nosuch'")):
        with pytest.raises(InputError, match=told):
            load("nets_here:make", Loading(weights=own / "w.pt", entry=entry))


def test_an_entry_is_a_part_of_weights(own: Path) -> None:
    with pytest.raises(UsageError, match="--entry ema without --weights"):
        load("nets_here:make", Loading(entry="ema"))
    with pytest.raises(UsageError, match="an entry of weights for a model that has its own"):
        load(MLP / "model.onnx", Loading(entry="ema"))
    with pytest.raises(InputError, match="has no entries"):
        load("nets_here:make", Loading(weights=MLP / "model.onnx", entry="ema"))
