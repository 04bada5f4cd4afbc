"""onnx2torch imports whatever the state of torchvision, and torchvision is left as it was found."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

from bnaudit.load.onnx.vision_stub import import_onnx2torch, working_torchvision

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _restore_modules() -> object:
    before = {name: module for name, module in sys.modules.items() if _is_torchvision(name)}
    for name in before:
        del sys.modules[name]
    yield
    for name in [name for name in sys.modules if _is_torchvision(name)]:
        del sys.modules[name]
    sys.modules.update(before)


def _is_torchvision(name: str) -> bool:
    return name.partition(".")[0] == "torchvision"


def _install(folder: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    package = folder / "torchvision"
    package.mkdir()
    (package / "extension.py").write_text("")
    (package / "__init__.py").write_text(source)
    monkeypatch.syspath_prepend(str(folder))


@pytest.mark.parametrize(
    "source",
    [
        "from torchvision import extension\nraise RuntimeError('operator does not exist')",
        "raise ImportError('no module')",
        "raise OSError('undefined symbol')",
    ],
)
def test_a_broken_torchvision_is_replaced_for_the_import_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    _install(tmp_path, monkeypatch, source)
    with working_torchvision():
        import torchvision

        with pytest.raises(RuntimeError, match=r"torchvision\.ops\.nms"):
            torchvision.ops.nms()
    assert not [name for name in sys.modules if _is_torchvision(name)]


def test_the_stub_goes_even_if_the_import_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _install(tmp_path, monkeypatch, "raise ImportError")
    with pytest.raises(ZeroDivisionError), working_torchvision():
        raise ZeroDivisionError
    assert "torchvision" not in sys.modules


def test_a_working_torchvision_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _install(tmp_path, monkeypatch, "version = 'real'")
    with working_torchvision():
        assert sys.modules["torchvision"].version == "real"
    assert sys.modules["torchvision"].version == "real"


def test_a_torchvision_that_is_already_imported_is_left_alone() -> None:
    own = ModuleType("torchvision")
    sys.modules["torchvision"] = own
    with working_torchvision():
        assert sys.modules["torchvision"] is own
    assert sys.modules["torchvision"] is own


def test_onnx2torch_imports() -> None:
    assert callable(import_onnx2torch().converter("Relu", 17, ""))
