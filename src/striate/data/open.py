"""From what a person types as DATA to a data set."""

from pathlib import Path

from striate.data import known
from striate.data.dataset import Dataset
from striate.data.formats import Format, formats
from striate.data.images import IMAGE_SUFFIXES
from striate.errors import DataError, UsageError, did_you_mean

_ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar")


def open_dataset(data: str | Path, *, root: Path | None = None, download: bool = False) -> Dataset:
    """Open a data set by name or by path.

    Args:
        data: a known name (`known.NAMES`), else a path; a folder that is called like a known name is ``./name``.
        root: where the files of a known data set lie, or are downloaded to.
        download: whether files that are missing may be fetched from the network.

    Raises:
        UsageError: no such name and no such path, with the nearest real ones; or options that do not apply.
        DataError: the path is of no known format, or the data is damaged or missing.
    """
    if isinstance(data, str) and data in known.NAMES:
        return known.load(data, root=root, download=download)
    path = Path(data).expanduser()
    if root is not None or download:
        option = "--download" if root is None else "--root"
        raise UsageError(
            f"{option} is for known data sets, and {str(data)!r} is none of them.{did_you_mean(str(data), known.NAMES)}"
        )
    if not path.exists():
        raise UsageError(_unknown(path))
    if path.is_dir():
        try:
            next(path.iterdir(), None)
        except OSError as error:
            raise DataError(f"{path}: the folder cannot be read ({error.strerror}). Check its permissions.") from error
    found = _recognised(path)
    if not found:
        raise DataError(_unrecognised(path))
    if len(found) > 1:
        names = " and as ".join(form.NAME for form in found)
        raise DataError(f"{path}: can be read as {names}. Put what belongs to one of them into its own folder.")
    return found[0].load(path)


def _unknown(path: Path) -> str:
    """What to say of a name that is neither a known data set nor a path."""
    parent = path.parent
    if not parent.is_dir():
        above = next(folder for folder in path.parents if folder.is_dir())
        missing = above / path.relative_to(above).parts[0]
        siblings = [str(above / entry.name) for entry in above.iterdir()]
        return f"{path}: there is no {missing}.{did_you_mean(str(missing), siblings)}"
    siblings = [str(parent / entry.name) for entry in parent.iterdir()]
    if len(path.parts) > 1:
        return f"{path}: no such file or folder.{did_you_mean(str(path), siblings)}"
    near = did_you_mean(str(path), [*known.NAMES, *siblings])
    return f"{str(path)!r} is neither a known data set nor a file or folder here.{near}" + (
        "" if near else f" The known ones are {', '.join(known.NAMES)}."
    )


def _unrecognised(path: Path) -> str:
    """What was seen at a path that no format recognised, and what each format looks for."""
    expected = "".join(f"\n  {form.NAME}: {form.EXPECTS}" for form in formats().values())
    if path.is_file():
        hint = "".join(f" Its folder is read as {form.NAME}: name that." for form in _recognised(path.parent)[:1])
        if not hint and path.suffix.lower() in _ARCHIVES:
            return f"{path}: an archive. Unpack it and name its folder."
        return f"{path}: a file of no known data format.{hint} Expected one of{expected}"
    entries = [entry for entry in path.iterdir() if not entry.name.startswith(".")]
    folders = sum(entry.is_dir() for entry in entries)
    images = sum(entry.suffix.lower() in IMAGE_SUFFIXES for entry in entries)
    tables = [entry for entry in entries if entry.suffix.lower() in (".csv", ".tsv")]
    others = len(entries) - folders - images
    seen = f"{_count(folders, 'folder')}, {_count(images, 'image')}, {_count(others, 'other file')}"
    hint = f" There is a table in it: to read that, name {tables[0]}." if tables else ""
    inner = ((folder, form) for folder in sorted(entries) if folder.is_dir() for form in _recognised(folder))
    for folder, form in list(inner)[:1]:
        hint += f" Its folder {folder.name} is read as {form.NAME}: name {folder}."
    if images and not folders:
        hint += " Move the images into one folder per class, or list them with their labels in a CSV file."
    return f"{path}: {seen}, but no known data format.{hint} Expected one of{expected}"


def _recognised(path: Path) -> list[Format]:
    return [form for form in formats().values() if form.recognise(path)]


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
