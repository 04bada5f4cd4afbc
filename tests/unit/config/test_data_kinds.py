"""How data is read, as options: names of arrays, and what becomes of images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from bnaudit.config import load_config
from bnaudit.config.data_kinds import Images, Names
from bnaudit.errors import ConfigError, UsageError
from bnaudit.options import AuditOptions

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("size", "256", (256,)),
        ("crop", "224x192", (224, 192)),
        ("mean", "imagenet", "imagenet"),
        ("mean", "0.5", (0.5,)),
        ("std", "0.2,0.3,1e-1", (0.2, 0.3, 0.1)),
        ("channels", "bgr", "bgr"),
        ("range", "255", "255"),
        ("layout", "nhwc", "nhwc"),
        ("resample", "lanczos", "lanczos"),
    ],
)
def test_values_of_images(key: str, text: str, value: Any) -> None:
    typed = Images().typed(f"{key}={text}")
    assert Images().accept("images", dict([typed])) == {key: value}


def test_python_may_give_numbers() -> None:
    given = {"size": 256, "mean": [0.5, 0.4, 0.3], "range": 1}
    assert AuditOptions(images=given).images == {
        "size": (256,),
        "mean": (0.5, 0.4, 0.3),
        "range": "1",
    }


@pytest.mark.parametrize(
    "text",
    ["size", "size=", "size=0", "size=1x2x3", "size=-1", "mean=", "mean=a", "mean=nan", "std=0",
     "range=2", "channels=RGB", "sise=3", "layout=hwc"],
)  # fmt: skip
def test_values_without_meaning(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Images().typed(text)
    key, _, value = text.partition("=")
    with pytest.raises(UsageError):
        AuditOptions(images={key: value})


def test_a_near_key_is_named() -> None:
    with pytest.raises(ValueError, match="no 'sise', did you mean 'size'"):
        Images().typed("sise=3")


def test_names() -> None:
    assert Names().typed("x=a=b") == ("x", "a=b")
    for text in ("x", "=a", "x="):
        with pytest.raises(ValueError, match="write it like INPUT=KEY"):
            Names().typed(text)
    with pytest.raises(ValueError, match="given twice for 'x'"):
        Names().join((("x", "a"), ("x", "b")))
    with pytest.raises(UsageError, match="map has to be a mapping"):
        AuditOptions(map="x=a")  # type: ignore[arg-type]


def test_a_file_says_it_as_yaml_does(tmp_path: Path) -> None:
    path = tmp_path / "b.yaml"
    path.write_text(
        "map: {x: picture}\n"
        "images:\n  size: 256\n  crop: 224x192\n  mean: [0.5, 0.4, 3e-1]\n  std: imagenet\n"
    )
    found = {key: setting.value for key, setting in load_config(path).settings.items()}
    assert found["map"] == {"x": "picture"}
    assert Images().accept("images", found["images"]) == {
        "size": (256,),
        "crop": (224, 192),
        "mean": (0.5, 0.4, 0.3),
        "std": "imagenet",
    }


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("images: {sise: 3}", "unknown key 'sise', did you mean 'size'"),
        ("images: {size: big}", "images.size has to be a size in pixels"),
        ("images: 3", "images has to be a mapping"),
        ("map: [x]", "map has to be a mapping"),
        ("map: {x: [a]}", "map.x has to be text"),
    ],
)
def test_a_file_with_other_values(tmp_path: Path, text: str, fact: str) -> None:
    path = tmp_path / "b.yaml"
    path.write_text(f"{text}\n")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert fact in caught.value.message
    assert "b.yaml:1" in caught.value.message
