"""Folders of images against torchvision's transforms, and everything that is no image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image

from bnaudit.load.model import InputSpec
from tests.data.sources.reading import IMAGE, refused, samples

if TYPE_CHECKING:
    from pathlib import Path

RNG = np.random.default_rng(0)


def image(path: Path, height: int = 20, width: int = 30, mode: str = "RGB") -> np.ndarray[Any, Any]:
    shape = (height, width) if mode == "L" else (height, width, len(mode))
    pixels = RNG.integers(0, 256, shape, dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return pixels


def classes(folder: Path) -> Path:
    for name in ("dog", "cat", "emu"):
        for i in range(2):
            image(folder / name / f"{i}.png")
    return folder


def test_class_folders_are_numbered_by_name_and_images_stand_in_order(tmp_path: Path) -> None:
    found = samples(classes(tmp_path), IMAGE)
    assert found.arrays["image"].shape == (6, 3, 8, 6)
    assert found.labels is not None
    assert found.labels.all().tolist() == [0, 0, 1, 1, 2, 2]
    assert found.labels_from == f"{tmp_path}: the class folders"
    assert any("labels 0 to 2 are its folders by name, 'cat' to 'emu'" in n for n in found.notes)
    first = samples(tmp_path / "cat", IMAGE)
    assert first.labels is None
    index = torch.tensor([1, 0])
    assert torch.equal(first.arrays["image"].take(index), found.arrays["image"].take(index))


def test_a_folder_by_a_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    classes(tmp_path / "d")
    monkeypatch.chdir(tmp_path)
    assert samples("d/", IMAGE).arrays["image"].all().shape == (6, 3, 8, 6)


def test_the_defaults_take_the_models_size_and_the_range_0_to_1(tmp_path: Path) -> None:
    pixels = image(tmp_path / "a.png", 8, 6)
    found = samples(tmp_path, IMAGE)
    expected = torch.from_numpy(pixels).permute(2, 0, 1).float() / 255
    assert torch.allclose(found.arrays["image"].all()[0], expected)
    assert found.notes == (
        f"{tmp_path}: 1 images, size 8x6 (bilinear), crop 8x6, rgb, 0 to 1, no mean and std "
        "(--images KEY=VALUE says otherwise)",
    )


@pytest.mark.parametrize(
    ("shape", "resized", "corner"),
    [
        ((40, 30), (16, 12), (3, 2)),
        ((30, 40), (12, 16), (1, 4)),
        ((33, 33), (12, 12), (1, 2)),
        ((9, 50), (12, 66), (1, 29)),
    ],
)
@pytest.mark.parametrize("resample", ["bilinear", "bicubic"])
def test_as_torchvision_does_it(
    tmp_path: Path, shape: Any, resized: Any, corner: Any, resample: str
) -> None:
    """Resize(12), CenterCrop((10, 8)), ToTensor(), Normalize(...): sizes and corners by its formulas."""
    pixels = image(tmp_path / "a.png", *shape)
    way = Image.Resampling[resample.upper()]
    small = np.asarray(Image.fromarray(pixels).resize(resized[::-1], way)) / 255
    top, left = corner
    cut = small[top : top + 10, left : left + 8]
    expected = (cut - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
    given = {
        "size": "12",
        "crop": "10x8",
        "mean": "imagenet",
        "std": "imagenet",
        "resample": resample,
    }
    found = samples(tmp_path, InputSpec("x", ("N", 3, None, None), "float32"), images=given)
    made = found.arrays["x"].all()[0]
    assert np.allclose(made.numpy(), expected.transpose(2, 0, 1), atol=1e-5)


def test_channels_range_and_layout(tmp_path: Path) -> None:
    pixels = torch.from_numpy(image(tmp_path / "a.png", 8, 6))
    any_ = InputSpec("x", None, None)
    base = {"size": "8x6"}

    def made(spec: InputSpec = any_, **given: str) -> torch.Tensor:
        return samples(tmp_path, spec, images=base | given).arrays["x"].all()[0]

    assert torch.equal(made(range="255"), pixels.permute(2, 0, 1).float())
    assert torch.equal(made(range="255", channels="bgr"), pixels.flip(2).permute(2, 0, 1).float())
    assert torch.equal(made(range="255", layout="nhwc"), pixels.float())
    caffe = made(range="255", channels="bgr", mean="123,117,104")
    assert torch.equal(
        caffe, (pixels.float() - torch.tensor([123.0, 117, 104])).flip(2).permute(2, 0, 1)
    )
    both = made(range="255", mean="imagenet", std="imagenet")
    assert torch.allclose(both, made(mean="imagenet", std="imagenet"), atol=1e-5)
    assert torch.allclose(
        made(mean="0.5", std="0.5"), pixels.permute(2, 0, 1) / 127.5 - 1, atol=1e-6
    )
    last = InputSpec("x", ("N", 8, 6, 3), "uint8")
    assert torch.equal(made(last), pixels)
    assert made(InputSpec("x", ("N", 1, 8, 6), "float32")).shape == (1, 8, 6)


@pytest.mark.parametrize("mode", ["L", "RGBA", "LA"])
def test_other_modes_become_what_the_model_takes(tmp_path: Path, mode: str) -> None:
    image(tmp_path / "a.png", mode=mode)
    assert samples(tmp_path, IMAGE).arrays["image"].all().shape == (1, 3, 8, 6)


def test_one_image_is_one_row(tmp_path: Path) -> None:
    image(tmp_path / "a.png")
    assert samples(tmp_path / "a.png", IMAGE).rows() == 1


def test_no_images(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert (
        "a folder without images (.jpg, .jpeg, .png" in refused(tmp_path / "empty", IMAGE).message
    )
    (tmp_path / "arrays").mkdir()
    np.save(tmp_path / "arrays" / "a.npy", np.zeros(3))
    assert "it has a.npy" in refused(tmp_path / "arrays", IMAGE).message
    both = classes(tmp_path / "both")
    image(both / "stray.png")
    assert "images beside folders of images (stray.png, cat/)" in refused(both, IMAGE).message


@pytest.mark.parametrize(
    "content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n cut", b"\xff\xd8\xff\xe0"]
)
def test_an_image_that_is_none_is_named(tmp_path: Path, content: bytes) -> None:
    image(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(content)
    assert refused(tmp_path, IMAGE).message == f"{tmp_path / 'b.png'}: is no image that can be read"


def test_a_cut_image_is_named(tmp_path: Path) -> None:
    image(tmp_path / "a.png", 200, 200)
    content = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(content[: len(content) // 2])
    assert "a.png: is no image that can be read" in refused(tmp_path, IMAGE).message


def test_formats_that_no_suffix_promises_stay_shut(tmp_path: Path) -> None:
    """Of Pillow's readers those of the suffixes; an .eps would start a program."""
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "a.eps")
    (tmp_path / "a.eps").rename(tmp_path / "a.png")
    assert "is no image" in refused(tmp_path, IMAGE).message


def test_an_image_of_too_many_pixels_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    assert "holds more pixels than an image does" in refused(tmp_path, IMAGE).message


@pytest.mark.parametrize(
    ("spec", "given", "fact"),
    [
        (
            InputSpec("x", ("N", 4, 8, 8), "float32"),
            {},
            "3 channel(s) (rgb), but the model takes 4",
        ),
        (
            InputSpec("x", ("N", 30), "float32"),
            {},
            "the model takes no (batch, channels, height, width)",
        ),
        (IMAGE, {"mean": "1,2"}, "--images mean has 2 numbers"),
        (IMAGE, {"size": "9", "crop": "9x9"}, "dimension 2 is 9"),
        (InputSpec("x", ("N", 3, 8, 6), "uint8"), {"mean": "1"}, "are for floats"),
    ],
)
def test_forms_that_do_not_fit(tmp_path: Path, spec: InputSpec, given: Any, fact: str) -> None:
    image(tmp_path / "a.png")
    assert fact in refused(tmp_path, spec, images=given).message


def test_without_pillow_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image(tmp_path / "a.png")
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    error = refused(tmp_path, IMAGE)
    assert error.message.endswith("reading images needs Pillow, which is not installed")
    assert error.hint == "pip install 'bnaudit[images]'"
