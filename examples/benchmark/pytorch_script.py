"""PyTorch on the CPU, photos read by Pillow in the workers of a DataLoader.

    python pytorch_script.py photos.txt -o rows.csv --name pytorch

Batch norm is folded, the memory format is channels-last and autograd is off,
as PyTorch's tuning guide has it for inference on a CPU. Frozen TorchScript and
`torch.compile` were within the noise of this, and start later.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from common import SIZE, arguments, benchmark, convolutions, cores
from PIL import Image
from torch import nn

if TYPE_CHECKING:
    from common import Batches, Predict

BATCH = 32


class Photos:
    """A map-style dataset: the number of a photo to its pixels, uint8 [3, 128, 128]."""

    def __init__(self, paths: list[str]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> Any:
        with Image.open(self.paths[number]) as photo:
            image = photo.convert("RGB")
        left, top = image.width // 16, image.height // 16
        x, y = (image.width - 2 * left) / SIZE, (image.height - 2 * top) / SIZE
        # Crop and resize in one, sampled as the network was trained (Pillow counts from
        # the middle of a pixel). `Image.resize` takes longer and moves labels.
        grid = (x, 0, left + (1 - x) / 2, 0, y, top + (1 - y) / 2)
        image = image.transform(
            (SIZE, SIZE), Image.Transform.AFFINE, grid, Image.Resampling.BILINEAR
        )
        return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def network() -> Any:
    """Return MobileNet V1 with the bundled weights."""
    steps: list[Any] = []
    *layers, head = convolutions()
    for stride, depthwise, kernel, bias in layers:
        if stride == 2:
            # TensorFlow's SAME adds to the bottom and the right alone.
            steps.append(nn.ZeroPad2d((0, 1, 0, 1)))
        padding = 1 if stride == 1 and kernel.shape[2] == 3 else 0
        groups = len(kernel) if depthwise else 1
        steps += [_convolution(kernel, bias, stride, padding, groups), nn.ReLU6(inplace=True)]
    steps += [nn.AdaptiveAvgPool2d(1), _convolution(head[2], head[3], 1, 0, 1), nn.Flatten()]
    return nn.Sequential(*steps).eval().to(memory_format=torch.channels_last)


def _convolution(kernel: Any, bias: Any, stride: int, padding: int, groups: int) -> Any:
    channels = kernel.shape[1] * groups
    layer = nn.Conv2d(channels, len(kernel), kernel.shape[2], stride, padding, groups=groups)
    layer.load_state_dict({"weight": torch.from_numpy(kernel), "bias": torch.from_numpy(bias)})
    return layer


def load() -> Predict:
    """Return the network behind a DataLoader with a worker for each core."""
    model = network()
    torch.set_num_threads(cores())

    def predict(paths: list[str]) -> Batches:
        photos: Any = torch.utils.data.DataLoader(
            Photos(paths), batch_size=BATCH, num_workers=cores(), prefetch_factor=4
        )
        done = 0
        with torch.inference_mode():
            for pixels in photos:
                images = pixels.to(torch.float32, memory_format=torch.channels_last)
                logits = model(images.div_(127.5).sub_(1))
                yield paths[done : done + len(logits)], logits.numpy()
                done += len(logits)

    return predict


def main() -> int:
    """Parse the command line and run."""
    benchmark(arguments("PyTorch on the CPU.").parse_args(), load())
    return 0


if __name__ == "__main__":
    sys.exit(main())
