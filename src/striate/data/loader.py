"""From a data set to batches, so that every batch is a function of (seed, epoch, step).

The order of an epoch and every random number of a batch come from generators that are seeded by their place (see
`striate.data.transforms.draws`). A killed run resumes in the middle of an epoch with the very batches that it would
have seen, and N processes see, slice by slice, the batches that one process would.

Where the preprocessing shows images on canvases of their own shape (`Preprocessing.multiple`), a batch has images of
like shape. In training the images, in a new order, are sorted by the shape of their canvas and cut into batches, whose
order is then drawn; in evaluation a batch has images of one canvas, so that none is seen otherwise than alone.

Small data lives in memory, as one uint8 tensor on the training device, and is normalised (and augmented) a batch at a
time: what is decoded once is kept as long as it fits. Larger data, and random crops of large images, are read again in
each epoch by threads that stay a few batches ahead.
"""

import math
import os
import time
from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from striate.core.batch import Batch
from striate.core.instances import InstanceSets
from striate.data.dataset import Dataset, ImageArrays, Indices, Skipped
from striate.data.images import ImageError, cpus
from striate.data.objects import shapes_of
from striate.data.preprocess import Preprocessing
from striate.data.reading import read_crop, read_pixels
from striate.data.shapes import draw_masks
from striate.data.transforms.draws import Draws
from striate.data.transforms.policy import Augmentation
from striate.errors import DataError, UsageError

if TYPE_CHECKING:
    from striate.data.transforms.instances import InstanceAugmentation

KEPT_BYTES = 2 << 30  # decoded images are kept in memory up to this
KEPT_SHARE = 8  # and up to one part in this many of the machine's memory

UNREAD, READY, UNREADABLE = 0, 1, 2


class _Shelf:
    """Decoded images: those of one batch, or all that stay in memory. Letters: N images, C, H, W of the input."""

    def __init__(self, pixels: Tensor):
        count = pixels.shape[0]
        self.pixels = pixels  # (N, C, H, W) uint8, on the CPU
        self.sizes = torch.zeros((count, 2), dtype=torch.int64)  # original height and width
        self.state = np.full(count, UNREAD, dtype=np.uint8)
        self.reasons: dict[int, str] = {}  # row: why it is unreadable
        self.pixels_array = pixels.numpy()
        self.sizes_array = self.sizes.numpy()


@dataclass(frozen=True, kw_only=True)
class _Pending:
    """A batch that is being read."""

    positions: Tensor  # (B,) int64, in the loader's indices
    rows: Tensor  # (B,) int64, in the shelf
    shelf: _Shelf
    draws: Draws | None  # None without augmentation
    crops: Tensor | None  # what a crop in batches needs
    canvas: tuple[int, int]  # height and width of the global batch
    reads: list[Future[None]]


class Loader:
    """Batches of a part of a data set.

    Attributes:
        steps: batches in an epoch; the last one may be smaller.
        skipped: images that could not be read, each once; they are missing from their batches.
        wait: seconds that the consumer has waited for batches so far.

    Args:
        dataset: where images and truths come from.
        indices: rows of the data set to load, (N,) int64.
        preprocessing: how an image becomes the network's input. Without augmentation the values are exactly its own.
        batch: images in a global batch, over all processes.
        seed: of the order and of the augmentation; not negative.
        augmentation: what happens to images in training.
        shuffle: a new order in each epoch; otherwise that of ``indices``, by canvases where there are several.
        keep: keep decoded images in memory for the next epoch, where they fit.
        device: where images and truths of a batch end up.
        workers: threads that read files; by default as many as this process has CPUs.
        rank: which process this is. It gets its contiguous slice of every global batch; where a batch has fewer images
            than there are processes, the slices of some are empty.
        world: number of processes.

    Raises:
        UsageError: a number makes no sense.
    """

    def __init__(
        self,
        dataset: Dataset,
        indices: Indices,
        preprocessing: Preprocessing,
        *,
        batch: int,
        seed: int,
        augmentation: "Augmentation | InstanceAugmentation | None" = None,
        shuffle: bool = True,
        keep: bool = True,
        device: torch.device | str = "cpu",
        workers: int | None = None,
        rank: int = 0,
        world: int = 1,
    ):
        if batch < 1 or seed < 0 or not 0 <= rank < world or (workers is not None and workers < 1):
            raise UsageError(
                f"a loader needs batch >= 1, seed >= 0, workers >= 1 and 0 <= rank < world; "
                f"got batch {batch}, seed {seed}, workers {workers}, rank {rank}, world {world}."
            )
        self.dataset = dataset
        self.indices = np.ascontiguousarray(indices, dtype=np.int64)
        self.preprocessing = preprocessing
        self.batch = batch
        self.seed = seed
        self.augmentation = augmentation
        self._crop = augmentation.crop if isinstance(augmentation, Augmentation) else None
        # Whether training sees other pixels than evaluation: then a JPEG need not be decoded in full.
        self._changes = augmentation is not None and not (
            isinstance(augmentation, Augmentation) and not augmentation.crop and not augmentation.steps
        )
        self.shuffle = shuffle
        self.device = torch.device(device)
        self.workers = workers or max(1, cpus() // world)
        self.rank = rank
        self.world = world
        self._canvases = None  # (N, 2) int64, height and width that each image needs
        if preprocessing.multiple is not None:
            sizes = shapes_of(dataset, self.indices, instead=preprocessing.size)
            self._canvases = torch.from_numpy(preprocessing.canvases(sizes))
        self._ends = self._batch_ends()
        self.steps = len(self._ends)
        self.skipped: list[Skipped] = []
        self.wait = 0.0

        scale, offset = preprocessing.affine()
        self._scale = torch.from_numpy(scale).view(-1, 1, 1).to(self.device)
        self._offset = torch.from_numpy(offset).view(-1, 1, 1).to(self.device)
        self._rows_of_data = torch.from_numpy(self.indices)
        self._truths = dataset.truths.select(self._rows_of_data).to(self.device)
        self._named: set[int] = set()  # positions of what `skipped` holds
        self._kept = self._shelf_that_stays(keep)
        self._resident: Tensor | None = None  # the kept pixels on the device, once nothing is left to read

    def epoch(self, epoch: int, start: int = 0) -> Generator[Batch, None, None]:
        """The batches of an epoch from batch ``start`` on.

        Close the generator, or run it to its end: its threads end with it.
        """
        if self._kept is not None and self._resident is None and (self._kept.state != UNREAD).all():
            self._resident = self._kept.pixels.to(self.device)
        return self._from_files(epoch, start) if self._resident is None else self._from_memory(epoch, start)

    def _from_memory(self, epoch: int, start: int) -> Generator[Batch, None, None]:
        assert self._kept is not None
        assert self._resident is not None
        order = self._order(epoch)
        whole = not self._named
        for step in range(start, self.steps):
            began = time.perf_counter()
            positions, draws, canvas = self._share(order, epoch, step)
            crops = self._draw_crops(draws)
            if not whole:
                kept = torch.from_numpy(np.flatnonzero(self._kept.state[positions.numpy()] == READY))
                positions, crops = positions[kept], None if crops is None else crops[kept]
                if draws is not None:
                    draws.keep(kept)
            pixels = self._resident.index_select(0, positions.to(self.device))
            batch = self._finish(pixels, self._kept.sizes.index_select(0, positions), positions, draws, crops, canvas)
            self.wait += time.perf_counter() - began
            yield batch

    def _from_files(self, epoch: int, start: int) -> Generator[Batch, None, None]:
        order = self._order(epoch)
        ahead = max(2, math.ceil(2 * self.workers * self.world / self.batch))
        pending: deque[_Pending] = deque()
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="striate-read")
        try:
            for step in range(start, self.steps):
                began = time.perf_counter()
                pending.append(self._begin(pool, order, epoch, step))
                batch = self._end(pending.popleft()) if len(pending) > ahead else None
                self.wait += time.perf_counter() - began
                if batch is not None:
                    yield batch
            while pending:
                began = time.perf_counter()
                batch = self._end(pending.popleft())
                self.wait += time.perf_counter() - began
                yield batch
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _batch_ends(self) -> list[int]:
        """Where each batch ends in the order of an epoch."""
        count, batch = len(self.indices), self.batch
        if self._canvases is not None and not self.shuffle:
            canvases = self._canvases[self._order(0)].unique_consecutive(dim=0, return_counts=True)[1].tolist()
            starts = [0, *np.cumsum(canvases).tolist()]
            return [min(start + batch, end) for first, end in pairwise(starts) for start in range(first, end, batch)]
        ends = [*range(batch, count, batch), *([count] if count else [])]
        if self.shuffle and count > batch > 1 and count % batch == 1:
            del ends[-2]  # the last batch takes in a lone last image, which has no variance to normalise by
        return ends

    def _order(self, epoch: int) -> Tensor:
        """(N,) int64, positions in `indices`."""
        if not self.shuffle:
            order = torch.arange(len(self.indices))
            return order if self._canvases is None else order[self._by_shape(order)]
        rng = np.random.default_rng([self.seed, epoch])
        order = torch.from_numpy(rng.permutation(len(self.indices)))
        if self._canvases is None or self.steps < 2:
            return order
        # The batch of another size is cut out anywhere, or it would be of the widest images in every epoch.
        order = order[self._by_shape(order)]
        full, other = self._ends[0], self._ends[-1] - self._ends[-2]
        place = int(rng.integers(self.steps)) * full
        last = order[place : place + other]
        batches = torch.cat((order[:place], order[place + other :])).view(-1, full)
        return torch.cat((batches[torch.from_numpy(rng.permutation(len(batches)))].flatten(), last))

    def _by_shape(self, positions: Tensor) -> Tensor:
        """(N,) int64, from the narrowest canvas to the widest, of one width the highest first."""
        assert self._canvases is not None
        height, width = self._canvases[positions].unbind(1)
        return torch.from_numpy(np.lexsort((-height.numpy(), width.numpy(), (width / height).numpy())))

    def _share(self, order: Tensor, epoch: int, step: int) -> tuple[Tensor, Draws | None, tuple[int, int]]:
        """Positions and random numbers of a global batch, as far as they concern this process, and its canvas."""
        positions = order[self._ends[step - 1] if step else 0 : self._ends[step]]
        canvas = self.preprocessing.size
        if self._canvases is not None:
            height, width = self._canvases[positions].amax(0).tolist()
            canvas = (height, width)
        total = positions.shape[0]
        unit = 1 if self.augmentation is None else self.augmentation.unit  # such neighbours stay in one process
        units, larger = divmod(math.ceil(total / unit), self.world)
        first = unit * (self.rank * units + min(self.rank, larger))
        last = min(total, first + unit * (units + (self.rank < larger)))
        positions = positions[first:last]
        if self.augmentation is None:
            return positions, None, canvas
        rows = torch.arange(first, first + positions.shape[0])
        return positions, Draws(seed=self.seed, epoch=epoch, step=step, total=total, rows=rows), canvas

    def _draw_crops(self, draws: Draws | None) -> Tensor | None:
        """The first draw of a batch."""
        return None if draws is None or self._crop is None else self._crop.draw(draws)

    def _begin(self, pool: ThreadPoolExecutor, order: Tensor, epoch: int, step: int) -> _Pending:
        positions, draws, canvas = self._share(order, epoch, step)
        crops = self._draw_crops(draws)
        shelf, rows = self._kept, positions
        jobs: list[tuple[int, int, list[float] | None]]  # row of the shelf, row of the data set, crop
        if shelf is not None:
            jobs = [(row, int(self.indices[row]), None) for row in rows.tolist() if shelf.state[row] == UNREAD]
        else:
            shelf = self._shelf(len(positions), pinned=self.device.type == "cuda")
            rows = torch.arange(len(positions))
            drawn: list[list[float]] | list[None] = [None] * len(rows) if crops is None else crops.tolist()
            jobs = list(zip(rows.tolist(), self.indices[positions.numpy()].tolist(), drawn, strict=True))
            crops = None
        parts = min(len(jobs), 4 * self.workers)  # a few for each worker, so that none waits long for the last
        reads = [pool.submit(self._read, shelf, jobs[part::parts]) for part in range(parts)]
        return _Pending(
            positions=positions, rows=rows, shelf=shelf, draws=draws, crops=crops, canvas=canvas, reads=reads
        )

    def _read(self, shelf: _Shelf, jobs: list[tuple[int, int, list[float] | None]]) -> None:
        """Put images on the shelf; runs in a worker."""
        images = self.dataset.images
        for row, index, drawn in jobs:
            try:
                if not self._changes:
                    image = images.read(index)
                    pixels, size = self.preprocessing.pixels(image), image.shape[:2]
                elif self._crop is None or drawn is None:
                    pixels, size = read_pixels(images, index, self.preprocessing)
                else:
                    pixels, size = read_crop(images, index, self.preprocessing, self._crop, drawn)
            except DataError as error:
                shelf.reasons[row] = error.reason if isinstance(error, ImageError) else str(error)
                shelf.state[row] = UNREADABLE
                continue
            # NumPy, not torch: in a worker torch would start its own threads for this copy, at 200 times the cost.
            shelf.pixels_array[row] = pixels.transpose(2, 0, 1)
            shelf.sizes_array[row] = size
            shelf.state[row] = READY

    def _end(self, pending: _Pending) -> Batch:
        for read in pending.reads:
            read.result()
        shelf, rows, positions, crops = pending.shelf, pending.rows, pending.positions, pending.crops
        readable = shelf.state[rows.numpy()] == READY
        if not readable.all():
            self._name(pending, np.flatnonzero(~readable))
            kept = torch.from_numpy(np.flatnonzero(readable))
            rows, positions, crops = rows[kept], positions[kept], None if crops is None else crops[kept]
            if pending.draws is not None:
                pending.draws.keep(kept)
        sizes, pixels = shelf.sizes, shelf.pixels
        if shelf is self._kept or len(rows) < len(pixels):
            sizes, pixels = sizes[rows], pixels[rows]
        pixels = pixels.to(self.device, non_blocking=True)
        return self._finish(pixels, sizes, positions, pending.draws, crops, pending.canvas)

    def _finish(
        self,
        pixels: Tensor,
        sizes: Tensor,
        positions: Tensor,
        draws: Draws | None,
        crops: Tensor | None,
        canvas: tuple[int, int],
    ) -> Batch:
        """From uint8 images on the device to a batch."""
        if canvas != self.preprocessing.size:
            pixels = pixels[:, :, : canvas[0], : canvas[1]].contiguous()  # what is cut off is padding
        truths = self._truths.select(positions.to(self.device))
        placement = None
        if isinstance(truths, InstanceSets):
            placement = torch.from_numpy(self.preprocessing.placements(sizes.numpy()))
            truths = truths.placed(placement)
        indices = self._rows_of_data.index_select(0, positions)
        batch = Batch(images=pixels, sizes=sizes, truths=truths, indices=indices, placement=placement)
        if self.augmentation is None or draws is None:
            return replace(batch, images=pixels.to(torch.float32).mul_(self._scale).add_(self._offset))
        if isinstance(self.augmentation, Augmentation):
            images, changed = self.augmentation(
                pixels, batch.labels, draws, crops=crops, scale=self._scale, offset=self._offset
            )
            return replace(batch, images=images, truths=changed)
        objects = batch.instances
        if placement is not None and objects.shapes is not None and self.augmentation.needs_masks(draws.epoch):
            masks = draw_masks(objects.shapes, placement[objects.images.cpu()].numpy(), canvas)
            objects = replace(objects, masks=torch.from_numpy(masks).to(self.device))
        images, moved, inner = self.augmentation(
            pixels,
            objects,
            draws,
            crops=None,
            scale=self._scale,
            offset=self._offset,
            content=batch.content,
        )
        # What lies where is no longer one scale and one shift.
        return replace(batch, images=images, truths=moved, placement=None, inner=inner)

    def _name(self, pending: _Pending, unreadable: NDArray[np.int64]) -> None:
        """Add to `skipped`, in the order of the batch."""
        for i in unreadable.tolist():
            position = int(pending.positions[i])
            if position not in self._named:
                self._named.add(position)
                source = self.dataset.ids[int(self.indices[position])]
                self.skipped.append(Skipped(source=source, reason=pending.shelf.reasons[int(pending.rows[i])]))

    def _shelf(self, count: int, *, pinned: bool = False) -> _Shelf:
        shape = (count, self.preprocessing.channels, *self.preprocessing.size)
        return _Shelf(torch.empty(shape, dtype=torch.uint8, pin_memory=pinned))

    def _shelf_that_stays(self, keep: bool) -> _Shelf | None:
        """Room for all images, where they are small enough and their pixels are the same in every epoch."""
        images, preprocessing, count = self.dataset.images, self.preprocessing, len(self.indices)
        if isinstance(images, ImageArrays) and images.pixels.shape[1:3] == preprocessing.size:
            if images.pixels.shape[3] != preprocessing.channels:
                return self._shelf(count)
            # Copied into a fresh tensor: with one channel a transposed array keeps strides that torch takes for
            # channels-last, and the whole network would follow. The memory format is the engine's to choose.
            shelf = self._shelf(count)
            shelf.pixels_array[:] = images.pixels[self.indices].transpose(0, 3, 1, 2)
            shelf.state[:] = READY
            shelf.sizes[:] = torch.tensor(preprocessing.size)
            return shelf
        size = count * preprocessing.channels * math.prod(preprocessing.size)
        return (
            None
            if not keep or self._crop is not None or size > min(KEPT_BYTES, _memory() // KEPT_SHARE)
            else self._shelf(count)
        )


def _memory() -> int:
    """Bytes of memory of this machine; without a way to ask, enough for `KEPT_BYTES`."""
    if "SC_PHYS_PAGES" not in getattr(os, "sysconf_names", {}):
        return KEPT_BYTES * KEPT_SHARE
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
