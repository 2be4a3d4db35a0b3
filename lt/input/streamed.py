"""Images that are too many for memory: read batch by batch, the next ones while the network works on the last."""

import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch

from lt.core.environment import whole_number
from lt.data.split import Split

# Batches that are read ahead: enough for a slow file now and then.
AHEAD = 4
# Images that need more than this share of the memory are streamed; LT_IN_MEMORY_MIB sets another limit.
SHARE_OF_MEMORY = 0.4


def to_device(images: np.ndarray, where: torch.device) -> torch.Tensor:
    """uint8 images (N, H, W, 3) -> (N, 3, H, W) on a device; embeddings (N, D) as they are."""
    return _channels_first(images).to(where)


def to_float(images: torch.Tensor) -> torch.Tensor:
    """uint8 images scaled to [0, 1]; embeddings, which are float already, as they are."""
    return images if images.is_floating_point() else images.float() / 255


def _channels_first(images: np.ndarray) -> torch.Tensor:
    tensor = torch.from_numpy(np.ascontiguousarray(images))
    return tensor.permute(0, 3, 1, 2).contiguous() if tensor.ndim == 4 else tensor


def images_of(split: Split, index: np.ndarray, where: torch.device) -> "torch.Tensor | Streamed":
    """The images at some positions of a split: a uint8 tensor (N, 3, H, W) on the device where it has room, else Streamed;
    or the embeddings (N, D) there.

    Both give the same images, and so the same results, whichever a machine has room for.
    """
    if split.image_size is not None:
        streamed = Streamed(split, index, where)
        size, limit = np.prod(streamed.shape, dtype=np.float64), _limit(where)
        if size > limit:
            print(f"{len(index)} images of {size / 2**30:.1f} GiB are streamed (above {limit / 2**30:.1f} GiB; LT_IN_MEMORY_MIB)")
            return streamed
    return to_device(split.read(index), where)


def _limit(where: torch.device) -> float:
    """Bytes up to which images are held on a device."""
    mib = whole_number("LT_IN_MEMORY_MIB", "a whole number of MiB", least=0)
    if mib is not None:
        return float(mib) * 2**20
    limit = SHARE_OF_MEMORY * 2**34  # of 16 GiB, where the system does not tell
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        limit = SHARE_OF_MEMORY * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if where.type == "cuda":  # on their way to a GPU they are in this memory as well
        limit = min(limit, SHARE_OF_MEMORY * torch.cuda.mem_get_info(where)[1])
    return limit


class Streamed:
    """Stands where a uint8 tensor (N, 3, H, W) would: `images[positions]` or `images[start:stop]` reads a batch.

    expect(batches) says which positions will be asked for next, in this order; a thread then reads AHEAD of them. A slice
    makes the slice after it expected. What comes out of order is read when it is asked for.
    """

    def __init__(self, split: Split, index: np.ndarray, where: torch.device):
        size = split.image_size
        self.split, self.index, self.device = split, np.asarray(index), where
        self.shape = (len(self.index), 3, size, size)
        self._expected: deque[np.ndarray] = deque()
        self._reading: deque[tuple[np.ndarray, Future]] = deque()
        self._thread: ThreadPoolExecutor | None = None

    def __len__(self) -> int:
        return len(self.index)

    def only(self, positions: np.ndarray) -> "Streamed":
        """Some of the images."""
        return Streamed(self.split, self.index[positions], self.device)

    def expect(self, batches: list[torch.Tensor]) -> None:
        """Positions (B,), on the CPU, of the batches that come next; those that were expected before are forgotten."""
        for _, future in self._reading:
            future.cancel()
        self._reading.clear()
        self._expected = deque(batch.numpy() for batch in batches)
        self._read_ahead()

    def __getitem__(self, chosen: torch.Tensor | slice) -> torch.Tensor:
        if isinstance(chosen, slice):
            start, stop, _ = chosen.indices(len(self))
            positions = np.arange(start, stop)
        else:
            positions = chosen.cpu().numpy()
        if self._reading and np.array_equal(self._reading[0][0], positions):
            images = self._reading.popleft()[1].result()
        else:
            images = self._read(positions)
        if isinstance(chosen, slice) and not self._expected and not self._reading and len(positions):
            following = np.arange(stop, min(2 * stop - start, len(self)))
            self._expected.extend([following] if len(following) else [])
        self._read_ahead()
        return images.to(self.device, non_blocking=True)

    def _read(self, positions: np.ndarray) -> torch.Tensor:
        images = _channels_first(self.split.read(self.index[positions]))
        return images.pin_memory() if self.device.type == "cuda" else images

    def _read_ahead(self) -> None:
        self._thread = self._thread or ThreadPoolExecutor(1, thread_name_prefix="images")
        while self._expected and len(self._reading) < AHEAD:
            positions = self._expected.popleft()
            self._reading.append((positions, self._thread.submit(self._read, positions)))
