"""Networks of ImageNet's shape, trained a little on crops of scikit-learn's two photographs.

The class of a crop is which of four strips of which photograph it is cut from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from bench.vision.nets import torchvision

if TYPE_CHECKING:
    from pathlib import Path

NAMES = {"resnet18": (60, 0.02), "shufflenet_v2_x0_5": (150, 0.05)}
"""Name -> training steps and learning rate."""

CLASSES, SIDE = 8, 224
ROWS = 12
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def crops(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Rows (count, 3, 224, 224), normalised as usual, and their classes."""
    from sklearn.datasets import load_sample_images

    photos = [
        torch.from_numpy(p.copy()).permute(2, 0, 1) / 255 for p in load_sample_images().images
    ]
    generator = torch.Generator().manual_seed(seed)
    rows, labels = [], torch.randint(0, CLASSES, (count,), generator=generator)
    for label in labels.tolist():
        photo = photos[label // 4]
        width = photo.shape[2] // 4
        side = int(torch.randint(width // 2, width, (), generator=generator))
        top = int(torch.randint(0, photo.shape[1] - side, (), generator=generator))
        left = int(torch.randint(0, width - side + 1, (), generator=generator)) + label % 4 * width
        crop = photo[None, :, top : top + side, left : left + side]
        if torch.rand((), generator=generator) < 0.5:
            crop = crop.flip(3)
        rows.append(nn.functional.interpolate(crop, (SIDE, SIDE), mode="bilinear", antialias=True))
    mean, std = torch.tensor(_MEAN)[:, None, None], torch.tensor(_STD)[:, None, None]
    return (torch.cat(rows) - mean) / std, labels


def trained(name: str, folder: Path) -> nn.Module:
    """The network, from the folder if it was trained before."""
    torch.manual_seed(0)
    net: nn.Module = torchvision().models.get_model(name, num_classes=CLASSES)
    path = folder / f"{name}.pt"
    if not path.exists():
        steps, rate = NAMES[name]
        optimiser = torch.optim.SGD(net.parameters(), rate, momentum=0.9, nesterov=True)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        for step in range(steps):
            x, labels = crops(ROWS, 1000 + step)
            optimiser.zero_grad()
            loss = nn.functional.cross_entropy(net.train()(x), labels)
            loss.backward()
            optimiser.step()
            schedule.step()
            print(name, step, f"{float(loss.detach()):.3f}", flush=True)
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(net.state_dict(), path)
    net.load_state_dict(torch.load(path, weights_only=True))
    return net.eval().requires_grad_(False)
