"""A look at every image of a data set, by threads: its header, its pixels once decoded, or why there are none."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from striate.data.dataset import Images
from striate.data.images import Header, ImageError, ImageFiles, cpus, decode, probe, read_bytes
from striate.data.preprocess import Pixels

T = TypeVar("T")

Progress = Callable[[int, int], None]  # images looked at so far, of how many

_PART = 16  # images that a thread looks at before it reports


def survey(
    images: Images,
    look: Callable[[int, Header | None, Pixels | ImageError], T],
    *,
    progress: Progress | None = None,
    workers: int | None = None,
) -> list[T]:
    """Decode every image once and keep what ``look`` makes of it.

    Args:
        images: files or arrays.
        look: is given the row, the header (None for images that do not lie in files, and where it cannot be read) and
            the pixels or why there are none. It runs in several threads.
        progress: is told where the work stands, in the calling thread.
        workers: threads; by default as many as this process has CPUs.

    Returns:
        What ``look`` gave, row by row.
    """

    def part(rows: range) -> list[T]:
        return [look(row, *_decoded(images, row)) for row in rows]

    if workers is None:
        workers = cpus()
    total = len(images)
    parts = (range(start, min(start + _PART, total)) for start in range(0, total, _PART))
    seen: list[T] = []
    with ThreadPoolExecutor(workers, thread_name_prefix="striate-survey") as pool:
        try:
            for found in _in_order(pool, workers, part, parts):
                seen += found
                if progress is not None:
                    progress(len(seen), total)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return seen


def _in_order(
    pool: ThreadPoolExecutor, workers: int, work: Callable[[range], T], parts: Iterable[range]
) -> Iterator[T]:
    """What ``work`` gives for each part, with a few parts under way at any time."""
    waiting = iter(parts)
    pending: list[Future[T]] = [pool.submit(work, part) for part in islice(waiting, 4 * workers)]
    while pending:
        yield pending.pop(0).result()
        pending += [pool.submit(work, part) for part in islice(waiting, 1)]


def _decoded(images: Images, row: int) -> tuple[Header | None, Pixels | ImageError]:
    if not isinstance(images, ImageFiles):
        return None, images.read(row)
    path = images.paths[row]
    header: Header | None = None
    try:
        header = probe(path)
        return header, decode(read_bytes(path), path)
    except ImageError as error:
        return header, error
