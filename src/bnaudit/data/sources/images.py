"""A folder of images, decoded when a batch needs them. Folders inside it are the classes.

As torchvision's ImageFolder has it: the classes are numbered in the order of their folders' names, and the
images stand in the order of their paths.
"""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from bnaudit.data.rows import Held, Rows
from bnaudit.data.sources.source import YOUR_OWN, Found, missing
from bnaudit.errors import DataError
from bnaudit.files import opened

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from bnaudit.data.sources.source import Wanted
    from bnaudit.load.model import InputSpec

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".gif")
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "PPM", "GIF")
"""Of Pillow's readers those of these suffixes; the others, some of which run programs, stay shut."""
_SIDE = 224
_DEPTHS = {"rgb": 3, "bgr": 3, "gray": 1}
_IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
"""Of RGB in 0..1."""


def is_images(path: Path, head: bytes) -> bool:
    """Whether it is a folder, or one image by its name."""
    del head
    return os.path.isdir(path) or path.suffix.lower() in SUFFIXES  # noqa: PTH112  # pathlib's raises


def read_images(path: Path, wanted: Wanted) -> Found:
    """The images, and the numbers of their class folders as labels.

    Raises:
        DataError: there are none, Pillow is missing, or the model takes no images.
    """
    try:
        import PIL  # noqa: F401
    except ImportError as error:
        raise missing("Pillow", "images", f"{path}: reading images") from error
    files, classes = _listed(path)
    specs = [s for s in wanted.inputs if s.shape is None or len(s.shape) == 4]
    if not specs and wanted.inputs:
        raise DataError(
            f"{path}: images, but the model takes no (batch, channels, height, width)",
            hint="--data NAME=FOLDER names the input that images are for",
        )
    spec = specs[0] if specs else None
    form = _form(spec, wanted.images)
    name = "images" if spec is None else spec.name
    arrays: dict[str, Rows] = {name: Images(files, form)}
    notes = [f"{path}: {len(files)} images, {form.told()}"]
    if classes:
        numbers = {folder: number for number, folder in enumerate(classes)}
        labels = torch.tensor([numbers[file.relative_to(path).parts[0]] for file in files])
        arrays["labels"] = Held(labels)
        first, last = classes[0], classes[-1]
        notes.append(
            f"{path}: labels 0 to {len(classes) - 1} are its folders by name, {first!r} to {last!r}; they "
            "have to be the model's classes in its order"
        )
    return Found(arrays, notes=tuple(notes), labels_are="the class folders" if classes else None)


def _listed(path: Path) -> tuple[list[Path], list[str]]:
    """The images in order, and the names of the class folders."""
    if not path.is_dir():
        return [path], []
    images: list[Path] = []
    folders: list[Path] = []
    others: list[Path] = []
    for entry in sorted(path.iterdir(), key=lambda p: p.name):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            folders.append(entry)
        else:
            (images if entry.suffix.lower() in SUFFIXES else others).append(entry)
    inside = {folder: _images_below(folder) for folder in folders}
    folders = [folder for folder in folders if inside[folder]]
    if images and folders:
        raise DataError(
            f"{path}: has images beside folders of images ({images[0].name}, {folders[0].name}/)",
            hint="either a folder a class and nothing beside them, or images alone (no labels)",
        )
    found = images or [image for folder in folders for image in inside[folder]]
    if not found:
        has = f"; it has {others[0].name}" if others else ""
        raise DataError(
            f"{path}: a folder without images ({', '.join(SUFFIXES[:4])}, ...){has}",
            hint="give a folder of images, or folders of images whose names are the classes; arrays are "
            f"given as files; {YOUR_OWN}",
        )
    return found, [folder.name for folder in folders]


def _images_below(folder: Path) -> list[Path]:
    found = []
    for root, inner, names in os.walk(folder):
        inner.sort()
        found += [
            Path(root, name)
            for name in sorted(names)
            if name.lower().endswith(SUFFIXES) and not name.startswith(".")
        ]
    return found


@dataclass(frozen=True, slots=True)
class Form:
    """What an image is made into: resized, cropped in the middle, scaled, normalised, laid out.

    Attributes:
        size: shorter side, or height and width, before the crop; None keeps images as they are.
        crop: height and width.
        channels: "rgb", "bgr" or "gray".
        layout: "nchw" or "nhwc".
        top: the largest value, 1 or 255.
        mean, std: subtracted, divided by, in units of `top`; one for all channels or one each, red first.
        resample: how pixels are interpolated.
        dtype: float32, or the integers that the model takes.
    """

    size: tuple[int, ...]
    crop: tuple[int, int]
    channels: str
    layout: str
    top: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resample: str
    dtype: torch.dtype

    def told(self) -> str:
        """What is done, as a note says it."""
        size, crop = ("x".join(map(str, s)) for s in (self.size, self.crop))
        side = "shorter side" if len(self.size) == 1 else "size"
        norm = "no mean and std"
        if (self.mean, self.std) != ((0.0,), (1.0,)):
            mean, std = (" ".join(f"{v:g}" for v in values) for values in (self.mean, self.std))
            norm = f"mean {mean}, std {std}"
        return (
            f"{side} {size} ({self.resample}), crop {crop}, {self.channels}, 0 to {self.top}, {norm} "
            "(--images KEY=VALUE says otherwise)"
        )


def _form(spec: InputSpec | None, given: Mapping[str, Any]) -> Form:
    """What is asked for, and what the model's input says of the rest."""
    shape = (None,) * 4 if spec is None or spec.shape is None else spec.shape
    few = {1, 3}
    channels_last = shape[3] in few and shape[1] not in few
    layout = given.get("layout", "nhwc" if channels_last else "nchw")
    depth, *sides = (shape[3], *shape[1:3]) if layout == "nhwc" else (shape[1], *shape[2:])
    declared = tuple(s for s in sides if isinstance(s, int))
    size = given.get("size")
    whole = size if size is not None and len(size) == 2 else None
    crop = given.get("crop") or (
        declared if len(declared) == 2 else whole or (size or (_SIDE,)) * 2
    )
    crop = crop * 2 if len(crop) == 1 else crop
    channels = given.get("channels", "gray" if depth == 1 else "rgb")
    if isinstance(depth, int) and depth != _DEPTHS[channels]:
        raise DataError(
            f"images of {_DEPTHS[channels]} channel(s) ({channels}), but the model takes {depth}",
            hint="--images channels=gray or rgb; others are read by a function: --data file.py:function",
        )
    dtype = getattr(torch, (spec.dtype if spec is not None else None) or "float32", torch.float32)
    floating = isinstance(dtype, torch.dtype) and dtype.is_floating_point
    top = int(given.get("range", 1 if floating else 255))
    numbers = {}
    for name, neutral in (("mean", 0.0), ("std", 1.0)):
        numbers[name] = given.get(name, (neutral,))
        if numbers[name] == "imagenet":
            numbers[name] = tuple(top * v for v in _IMAGENET[name])
        if len(numbers[name]) not in {1, _DEPTHS[channels]}:
            raise DataError(
                f"--images {name} has {len(numbers[name])} numbers, and the images {_DEPTHS[channels]} "
                "channel(s)",
                hint="give one number, or one a channel, red first",
            )
    if not floating and (given.keys() & {"mean", "std"} or given.get("range") == "1"):
        raise DataError(
            f"--images mean, std and range=1 are for floats, but the model takes {dtype}",
            hint="leave them out: it gets values from 0 to 255",
        )
    return Form(
        size=size or (crop if crop[0] != crop[1] else crop[:1]),
        crop=(crop[0], crop[1]),
        channels=channels,
        layout=layout,
        top=top,
        mean=numbers["mean"],
        std=numbers["std"],
        resample=given.get("resample", "bilinear"),
        dtype=torch.float32 if floating else dtype,
    )


class Images(Rows):
    """Images as rows.

    Args:
        files: in order.
        form: what each is made into.
    """

    def __init__(self, files: Sequence[Path], form: Form) -> None:
        self.files, self.form, self.dtype = files, form, form.dtype
        depth = _DEPTHS[form.channels]
        inner = (depth, *form.crop) if form.layout == "nchw" else (*form.crop, depth)
        self.shape = (len(files), *inner)

    def take(self, index: Tensor) -> Tensor:
        """See `Rows.take`."""
        found = torch.empty((len(index), *self.shape[1:]), dtype=self.dtype)
        for place, row in enumerate(index.tolist()):
            found[place] = self._made(_decoded(self.files[row], self.form))
        return found

    def _made(self, pixels: Tensor) -> Tensor:
        """(height, width, channels) in 0..255 as the model gets it."""
        form = self.form
        if form.dtype.is_floating_point:
            mean, std = (torch.tensor(v, dtype=torch.float64) for v in (form.mean, form.std))
            pixels = ((pixels.double() * (form.top / 255) - mean) / std).float()
        if form.channels == "bgr":
            pixels = pixels.flip(2)
        return pixels if form.layout == "nhwc" else pixels.permute(2, 0, 1)


def _decoded(path: Path, form: Form) -> Tensor:
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with opened(path) as file, Image.open(file, formats=FORMATS) as image:
                sized = _resized(image.convert("L" if form.channels == "gray" else "RGB"), form)
        pixels = np.array(sized, dtype=np.uint8)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except Exception as error:  # Pillow's readers fail on damaged files in ways of their own
        bomb = isinstance(error, (Image.DecompressionBombWarning, Image.DecompressionBombError))
        why = "holds more pixels than an image does" if bomb else "is no image that can be read"
        raise DataError(
            f"{path}: {why}", hint="take it out of the folder, or save it again as PNG or JPEG"
        ) from error
    return torch.from_numpy(pixels.reshape(*pixels.shape[:2], -1))


def _resized(image: Any, form: Form) -> Any:
    from PIL import Image

    width, height = image.size
    if len(form.size) == 2:
        sides = (form.size[1], form.size[0])
    else:
        short = form.size[0]
        longer = int(short * max(width, height) / min(width, height))
        sides = (short, longer) if width <= height else (longer, short)
    if sides != image.size:
        image = image.resize(sides, Image.Resampling[form.resample.upper()])
    # The middle, as torchvision's CenterCrop rounds it; what is beyond the image is black.
    left, upper = (
        round((have - want) / 2) for have, want in zip(sides, form.crop[::-1], strict=True)
    )
    return image.crop((left, upper, left + form.crop[1], upper + form.crop[0]))
