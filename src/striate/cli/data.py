"""``striate data``."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from striate.cli.output import print_json, print_table
from striate.errors import DataError, UsageError, did_you_mean

if TYPE_CHECKING:
    from striate.data.dataset import Dataset
    from striate.data.doctor.examination import Examination, Problem
    from striate.data.doctor.mend import Mended
    from striate.data.split import Splits
    from striate.data.stats import Stats

SHOWN = 4  # files of each check that are named
ERRORS_SHOWN = 20  # labels that are likely wrong
LABEL_ERROR = "likely_label_error"  # the check that has a table
WRONG = 3  # the exit code of data that must not be trained on
COLOURS = {"error": "red", "warning": "yellow", "note": "cyan"}


class Commands(click.Group):
    """Answers a mistyped sub-command with the nearest ones."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """As click does, with a better message."""
        if args and args[0] not in self.commands:
            ctx.fail(f"there is no command 'data {args[0]}'.{did_you_mean(args[0], self.commands)}")
        return super().resolve_command(ctx, args)


@click.group(cls=Commands)
def command() -> None:
    """Check, count, show and split data.

    DATA is a path, or the name of a known data set ('digits' ships with striate).
    """


@command.command()
@click.argument("data")
@click.option("--root", type=click.Path(path_type=Path), help="folder that holds a known data set")
@click.option("--download", is_flag=True, help="fetch a known data set that is not there yet")
@click.option("--group-by", metavar="TEXT", help="column, or pattern on the file name, whose equals belong together")
@click.option("--fix", type=click.Path(path_type=Path), metavar="OUT", help="write a corrected copy into a new folder")
@click.option(
    "--model", metavar="MODEL", help="run, model file or name: ask it for look-alikes and for labels that may be wrong"
)
@click.option("--weights", metavar="FILE|OFFICIAL", help="weights of a named model")
@click.option("--origin", metavar="LIBRARY", help="whose names the weights have: torchvision, timm, ...")
@click.option(
    "--cache",
    default="auto",
    metavar="FOLDER",
    help="keeps what the model computes; none: keep none",
    show_default=True,
)
@click.option("--device", default="auto", metavar="DEVICE", help="cpu, cuda, ..., for the model", show_default=True)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="draw what the model finds: label_errors.png, look_alikes.png",
)
@click.option("--json", "as_json", is_flag=True, help="one JSON document on standard output")
@click.pass_context
def check(
    ctx: click.Context,
    data: str,
    root: Path | None,
    download: bool,
    group_by: str | None,
    fix: Path | None,
    model: str | None,
    weights: str | None,
    origin: str | None,
    cache: str,
    device: str,
    out: Path | None,
    as_json: bool,
) -> None:
    """Look for what would make training on DATA go wrong.

    Every image is decoded. Errors make the exit code 3; warnings and notes do not. With --fix OUT a copy is written in
    which they are mended, as far as that can be done without a person, and the exit code tells whether the copy is free
    of errors. The original is only read. Of images with objects the copy is COCO JSON.

    With --model a trained network looks too: for near duplicates whose pixels differ, such as mirror images, and for
    labels that are likely wrong. That is its opinion: --fix mends nothing because of it.
    """
    if model is None:
        idle = [name for name, value in (("--weights", weights), ("--origin", origin), ("--out", out)) if value]
        if idle:
            raise UsageError(f"{' and '.join(idle)}: only with --model, which says what shall look at the images.")
    from striate.data.doctor.checks import find_problems
    from striate.data.doctor.examination import examine
    from striate.data.doctor.mend import check_target, mend
    from striate.data.open import open_dataset
    from striate.engine.log import Display

    display = Display()
    dataset = open_dataset(data, root=root, download=download)
    _introduce(dataset, display)
    if fix is not None:
        check_target(dataset, fix)
    opened = None
    if model is not None:
        from striate.runs.embed import open_model
        from striate.runs.examining import check_usable

        opened = open_model(model, weights=weights, origin=origin, download=download)
        check_usable(opened)
    with _Bar(display, "Looking at images") as bar:
        examination = examine(dataset, group_by=group_by, progress=bar)
    if opened is not None:
        from striate.runs.examining import with_opinion
        from striate.runs.features import cache_folder

        examination = with_opinion(examination, opened, cache=cache_folder(cache), device=device, display=display)
    problems = find_problems(examination)
    wrong = any(problem.severity == "error" for problem in problems)
    if not as_json:
        _show_problems(problems, tables={LABEL_ERROR: lambda: _show_label_errors(examination)})
        click.echo(_verdict(data, problems, mending=fix is not None))
    pictures = _draw_opinion(examination, out) if out is not None else []
    for picture in pictures:
        display.say(_plain(f"Wrote {picture}."))
    mended = None
    left: list[Problem] = []
    if fix is not None:
        try:
            mended = mend(examination, fix)
        except DataError:
            if as_json:
                print_json(_check_document(examination, problems, None, [], pictures))
            raise
        copy = open_dataset(mended.path)
        with _Bar(display, "Looking at the copy") as bar:
            left = find_problems(examine(copy, progress=bar))
        left = [problem for problem in left if problem.severity == "error"]
        wrong = bool(left)
        if not as_json:
            _show_mended(mended, left, across="duplicate_across_splits" in _counts(problems))
    if as_json:
        print_json(_check_document(examination, problems, mended, left, pictures))
    if wrong:
        ctx.exit(WRONG)


def _check_document(
    examination: "Examination",
    problems: "Sequence[Problem]",
    mended: "Mended | None",
    left: "Sequence[Problem]",
    pictures: Sequence[Path],
) -> dict[str, Any]:
    from dataclasses import asdict

    dataset, opinion = examination.dataset, examination.opinion
    document: dict[str, Any] = {
        "schema": "striate.data_check/1",
        "data": dataset.name,
        "format": dataset.format,
        "images": len(dataset),
        "problems": [
            {key: asdict(problem)[key] for key in ("check", "severity", "file", "row", "message", "fix")}
            for problem in problems
        ],
        "counts": _counts(problems),
    }
    if opinion is not None:
        document["opinion"] = {
            "model": opinion.model,
            "judged": opinion.judged,
            "label_errors": [
                {
                    "file": dataset.ids[error.row],
                    "given": dataset.classes[error.given],
                    "likely": dataset.classes[error.likely],
                    "given_probability": error.given_probability,
                    "likely_probability": error.likely_probability,
                }
                for error in opinion.errors
            ],
            "look_alikes": [
                {"files": [dataset.ids[first], dataset.ids[second]], "cosine": cosine}
                for first, second, cosine in opinion.alike
            ],
            "pictures": [str(picture) for picture in pictures],
        }
    if mended is not None:
        document["fixed"] = {
            "path": str(mended.path),
            "log": str(mended.log),
            "images": mended.kept,
            "actions": mended.actions(),
            "errors_left": _counts(left),
        }
    return document


def _counts(problems: "Sequence[Problem]") -> dict[str, int]:
    from collections import Counter

    return dict(Counter(problem.check for problem in problems))


def _show_problems(problems: "Sequence[Problem]", tables: Mapping[str, Callable[[], int]] | None = None) -> None:
    """Checks with their files.

    Args:
        problems: sorted by severity.
        tables: for some checks a function that shows the files instead, and says how many it has shown.
    """
    groups: dict[tuple[str, str], list[Problem]] = {}
    for problem in problems:
        groups.setdefault((problem.severity, problem.check), []).append(problem)
    for (severity, name), members in groups.items():
        head = click.style(severity, fg=COLOURS[severity], bold=True)
        click.echo(f"{head}  {name.replace('_', ' ')} ({len(members):,})")
        table = (tables or {}).get(name)
        shown = table() if table else SHOWN
        for problem in [] if table else members[:SHOWN]:
            place = problem.file or ""
            if problem.row is not None and not place.endswith("]"):
                place += f", line {problem.row}"
            click.echo(_plain(f"    {place}: {problem.message}" if place else f"    {problem.message}"))
        if len(members) > shown:
            click.echo(f"    ... and {len(members) - shown:,} more")
        fixes = list(dict.fromkeys(problem.fix for problem in members))
        click.echo(_plain(f"  To mend: {' '.join(fixes[:2])}" + (" ..." if len(fixes) > 2 else "")))
        click.echo()


def _show_label_errors(examination: "Examination") -> int:
    from striate.data.doctor.label_errors import in_words

    assert examination.opinion is not None
    dataset, errors = examination.dataset, examination.opinion.errors[:ERRORS_SHOWN]
    rows = [
        (
            _plain(dataset.ids[error.row]),
            _plain(dataset.classes[error.given]),
            in_words(error.given_probability),
            _plain(dataset.classes[error.likely]),
            in_words(error.likely_probability),
        )
        for error in errors
    ]
    headings = ("image", "given label", "probability", "likely label", "probability ")
    print_table(headings, rows, right=("probability", "probability "))
    return len(errors)


def _draw_opinion(examination: "Examination", folder: Path) -> list[Path]:
    """Write the pictures of what a model finds; those that were written."""
    from striate.files import replacing
    from striate.runs.examining import alike_sheet, errors_sheet

    written: list[Path] = []
    for name, sheet in (
        ("label_errors.png", errors_sheet(examination)),
        ("look_alikes.png", alike_sheet(examination)),
    ):
        if sheet is None:
            continue
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with replacing(folder / name) as temporary:
                sheet.save(temporary, "PNG")
        except OSError as error:
            raise DataError(f"--out {folder}: cannot be written ({error.strerror}). Name another folder.") from error
        written.append(folder / name)
    return written


def _verdict(data: str, problems: "Sequence[Problem]", *, mending: bool) -> str:
    from striate.data.doctor.boxes import BY_HAND

    errors = _counts([problem for problem in problems if problem.severity == "error"])
    warnings = _counts([problem for problem in problems if problem.severity == "warning"])
    if errors:
        kinds = ", ".join(f"{name.replace('_', ' ')} ({count:,})" for name, count in errors.items())
        way = f" 'striate data check {data} --fix OUT' writes a corrected copy."
        if hidden := ", ".join(name.replace("_", " ") for name in errors if name in BY_HAND):
            way = f" A corrected copy would hide {hidden}: mend all of that where it was written, then --fix the rest."
        way = "" if mending else way
        return _plain(f"Not fit for training: {kinds}.{way}")
    if warnings:
        kinds = ", ".join(f"{name.replace('_', ' ')} ({count:,})" for name, count in warnings.items())
        return f"Fit for training, with something to look at: {kinds}."
    return "Fit for training: nothing was found that would make it go wrong."


def _show_mended(mended: "Mended", left: "Sequence[Problem]", *, across: bool) -> None:
    done = ", ".join(f"{count:,} {action}" for action, count in mended.actions().items()) or "nothing to mend"
    click.echo()
    click.echo(_plain(f"Wrote {mended.path}: {mended.kept:,} images ({done}). What was done and why: {mended.log}."))
    if across:
        click.echo("Of copies in several splits the one that is held out was kept: test before val before train.")
    if left:
        _show_problems(left)
        click.echo("The copy is still not fit for training: the rest needs a person.")
    else:
        click.echo(_plain(f"The copy is free of errors: 'striate train {mended.path}'."))


@command.command()
@click.argument("data")
@click.option("--root", type=click.Path(path_type=Path), help="folder that holds a known data set")
@click.option("--download", is_flag=True, help="fetch a known data set that is not there yet")
@click.option("--json", "as_json", is_flag=True, help="one JSON document on standard output")
def stats(data: str, root: Path | None, download: bool, as_json: bool) -> None:
    """Count and measure DATA: images per class and split, sizes, colours, licence. Every image is decoded."""
    from striate.data.open import open_dataset
    from striate.data.stats import measure
    from striate.engine.log import Display

    display = Display()
    dataset = open_dataset(data, root=root, download=download)
    _introduce(dataset, display)
    with _Bar(display, "Looking at images") as bar:
        found = measure(dataset, progress=bar)
    if as_json:
        print_json(found.to_json())
        return
    _show_counts(dataset.classes, found.counts)
    if found.objects:
        rows = [(name, f"{found.images[name]:,}", f"{found.without[name]:,}") for name in found.images]
        print_table(("split", "images", "without objects"), rows, right=("images", "without objects"))
    print_table(("measured", "value"), [(name, _plain(value)) for name, value in _facts(found)])


def _facts(found: "Stats") -> list[tuple[str, str]]:
    rows = [("images", f"{len(found.dataset):,}")]
    if found.unreadable:
        rows.append(("unreadable", f"{found.unreadable:,}  ('striate data check' names them)"))
    if found.sizes == 1:
        rows.append(("size", f"{_size(found.median)} (height x width), all of them"))
    elif found.sizes:
        rows += [
            ("height x width", f"{_size(found.smallest)} smallest, {_size(found.largest)} largest"),
            ("", f"{_size(found.median)} median, {found.sizes:,} different"),
            ("most frequent", ", ".join(f"{_size(size)} ({count:,})" for size, count in found.frequent)),
            ("width / height", "{:.2f} least, {:.2f} median, {:.2f} most".format(*found.aspect)),
        ]
    rows.append(("modes", ", ".join(f"{name} ({count:,})" for name, count in found.modes.items()) or "-"))
    if found.formats:
        rows.append(("formats", ", ".join(f"{name} ({count:,})" for name, count in found.formats.items())))
    rows += [
        ("bytes", "none: drawn when they are read" if found.bytes is None else f"{found.bytes:,}"),
        ("mean", " ".join(f"{value:.4f}" for value in found.mean)),
        ("std", " ".join(f"{value:.4f}" for value in found.std)),
        ("licence", found.dataset.licence or "not stated"),
    ]
    return rows


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


@command.command("split")
@click.argument("data")
@click.option("--root", type=click.Path(path_type=Path), help="folder that holds a known data set")
@click.option("--download", is_flag=True, help="fetch a known data set that is not there yet")
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="where to write it  [<name>.split.json]")
@click.option("--group-by", metavar="TEXT", help="column, or pattern on the file name, whose equals stay in one split")
@click.option("--seed", type=click.IntRange(0), default=0, help="another seed, another draw", show_default=True)
@click.option("--fractions", metavar="A,B,C", help="shares of train, val and test  [0.6,0.2,0.2]")
@click.option("--force", is_flag=True, help="write over a file that is there")
@click.option("--json", "as_json", is_flag=True, help="one JSON document on standard output")
def split_data(
    data: str,
    root: Path | None,
    download: bool,
    out: Path | None,
    group_by: str | None,
    seed: int,
    fractions: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Decide which images of DATA are trained on and which are held out, and write that down.

    Official splits are respected; what is missing is drawn, stratified by class, whole groups at a time.
    """
    from striate.data.open import open_dataset
    from striate.data.split import split
    from striate.engine.log import Display

    shares = _fractions(fractions)
    dataset = open_dataset(data, root=root, download=download)
    _introduce(dataset, Display())
    if fractions is not None and not set(dataset.splits) <= {"train"}:
        there = " and ".join(dataset.splits)
        raise UsageError(f"--fractions {fractions}: {dataset.name} has official splits ({there}), which are respected.")
    file = out or Path(f"{dataset.name}.split.json")
    if file.exists() and not force:
        raise UsageError(f"{file}: is there already. --force writes over it, --out FILE writes elsewhere.")
    splits = split(dataset, fractions=shares, seed=seed, group_by=group_by)
    splits.save(file, dataset)
    counts = _split_counts(dataset, splits)
    if as_json:
        print_json(
            {
                "schema": "striate.data_split/1",
                "data": dataset.name,
                "format": dataset.format,
                "file": str(file),
                "origin": splits.origin,
                "seed": seed,
                "group_by": group_by,
                "notes": list(splits.notes),
                "fingerprints": dict(splits.fingerprints),
                "splits": {
                    name: {"images": sum(row), "classes": dict(zip(dataset.classes, row, strict=True))}
                    for name, row in counts.items()
                },
            }
        )
        return
    click.echo(_plain(f"{splits.origin[0].upper()}{splits.origin[1:]}."))
    _show_counts(dataset.classes, counts)
    print_table(("split", "fingerprint (SHA-256)"), list(splits.fingerprints.items()))
    for note in splits.notes:
        click.echo(_plain(f"Note: {note}."))
    click.echo(_plain(f"Wrote {file}."))


def _fractions(text: str | None) -> tuple[float, float, float]:
    if text is None:
        return 0.6, 0.2, 0.2
    try:
        train, val, test = (float(part) for part in text.replace("/", ",").split(","))
    except ValueError:
        raise UsageError(
            f"--fractions {text!r}: expected three numbers that sum to 1, for train, val and test, as in 0.6,0.2,0.2."
        ) from None
    return train, val, test


def _split_counts(dataset: "Dataset", splits: "Splits") -> dict[str, list[int]]:
    return {name: dataset.counts(rows).tolist() for name, rows in splits.indices.items()}


@command.command()
@click.argument("data")
@click.argument("out", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--to", "form", required=True, metavar="FORMAT", help="coco, yolo, voc, boxes_csv, pts, folder, table, ..."
)
@click.option("--root", type=click.Path(path_type=Path), help="folder that holds a known data set")
@click.option(
    "--class",
    "pairs",
    multiple=True,
    metavar="OLD=NEW",
    help="another name for a class; of two alike one; OLD= drops it",
)
@click.option("--json", "as_json", is_flag=True, help="one JSON document on standard output")
def convert(data: str, out: Path, form: str, root: Path | None, pairs: tuple[str, ...], as_json: bool) -> None:
    """Write DATA into the new folder OUT in another format, and list what that could not hold."""
    from striate.data.convert import convert as write
    from striate.data.convert import renamed
    from striate.data.images import ImageError
    from striate.data.open import open_dataset

    names: dict[str, str | None] = {}
    for pair in pairs:
        old, equals, new = pair.partition("=")
        if not equals or not old:
            raise UsageError(f"--class {pair!r} is not OLD=NEW, as in --class cat=animal.")
        names[old] = new or None
    dataset = renamed(open_dataset(data, root=root), names)
    try:
        lost = write(dataset, form, out)
    except ImageError as error:
        raise DataError(f"{error} Nothing was written; 'striate data check {data} --fix OUT' leaves it out.") from error
    skipped = [{"source": item.source, "reason": item.reason} for item in dataset.skipped]
    if as_json:
        print_json(
            {
                "schema": "striate.data_convert/1",
                "data": dataset.name,
                "out": str(out),
                "format": form,
                "images": len(dataset),
                "lost": lost,
                "skipped": skipped,
            }
        )
        return
    click.echo(f"Wrote {_number(len(dataset), 'image', 'images')} of {dataset.name} to {out}.")
    for words in lost:
        click.echo(f"Not kept: {words}.")
    if skipped:
        click.echo(f"Left out of {dataset.name} from the start: {len(skipped)}, as {skipped[0]['source']}.")


@command.command()
@click.argument("data")
@click.option("--root", type=click.Path(path_type=Path), help="folder that holds a known data set")
@click.option("--download", is_flag=True, help="fetch a known data set that is not there yet")
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="a PNG file  [<name>-<split>.png]")
@click.option(
    "--split", "split_name", default="train", metavar="NAME", help="train, val, test or all", show_default=True
)
@click.option("--count", type=click.IntRange(1, 400), help="images  [36; with --augment one of each class, 8 to 12]")
@click.option("--augment", metavar="POLICY", help="originals beside what training would see of them")
@click.option("--size", metavar="HxW", help="with --augment: the input size  [as training would choose]")
@click.option("--seed", type=click.IntRange(0), default=0, help="another seed, other images", show_default=True)
def show(
    data: str,
    root: Path | None,
    download: bool,
    out: Path | None,
    split_name: str,
    count: int | None,
    augment: str | None,
    size: str | None,
    seed: int,
) -> None:
    """Draw images of DATA with their classes, as many of each class as can be."""
    from striate.config import Layer, resolve
    from striate.data.open import open_dataset
    from striate.engine.log import Display
    from striate.files import replacing
    from striate.runs.prepare import prepare
    from striate.runs.samples import augmented_sheet, sample_sheet

    if size is not None and augment is None:
        raise UsageError("--size is the network's input size: it needs --augment POLICY.")
    if out is not None and out.suffix.lower() != ".png":
        raise UsageError(f"--out {out}: the picture is a PNG file; let its name end in .png.")
    display = Display()
    if augment is None:
        dataset = open_dataset(data, root=root, download=download)
        _introduce(dataset, display)
        sheet, skipped = sample_sheet(dataset, split_name=split_name, count=count or 36, seed=seed)
    else:
        values = {"data": data, "root": root and str(root), "download": download, "augment": augment, "size": size}
        given = {name: value for name, value in values.items() if value is not None}
        # Bad files do not keep anybody from looking at the good ones.
        prepared = prepare(resolve(Layer(source="command line", values={**given, "max_bad": 1.0})))
        dataset = prepared.dataset
        _introduce(dataset, display)
        sheet, skipped = augmented_sheet(
            prepared, split_name=split_name, count=count or min(12, max(8, len(dataset.classes))), seed=seed
        )
    file = out or Path(f"{dataset.name}-{split_name}{'-augmented' if augment else ''}.png")
    try:
        with replacing(file) as temporary:
            sheet.save(temporary, "PNG")
    except OSError as error:
        raise DataError(f"{file}: cannot be written ({error.strerror}). Name another file with --out.") from error
    if skipped:
        click.echo(
            f"Left out, because unreadable: {_number(skipped, 'image', 'images')}. 'striate data check' tells more."
        )
    click.echo(_plain(f"Wrote {file}."))


def _introduce(dataset: "Dataset", display: Any) -> None:
    """Say what the data was recognised as."""
    parts = ", ".join(f"{name} {len(rows):,}" for name, rows in dataset.splits.items())
    classes = _number(len(dataset.classes), "class", "classes")
    images = _number(len(dataset), "image", "images")
    skipped = f"; not read: {_number(len(dataset.skipped), 'entry', 'entries')}" if dataset.skipped else ""
    text = f"Data: {dataset.name}, {dataset.format}, {classes}, {images}" + (f" ({parts})" if parts else "") + skipped
    display.say(_plain(text))


def _show_counts(classes: Sequence[str], counts: Mapping[str, Sequence[int]]) -> None:
    """A table of images per class and split."""
    rows = [(_plain(name), *(f"{row[k]:,}" for row in counts.values())) for k, name in enumerate(classes)]
    rows.append(("all classes", *(f"{sum(row):,}" for row in counts.values())))
    print_table(("class", *counts), rows, right=list(counts))


def _number(count: int, one: str, many: str) -> str:
    return f"{count:,} {one if count == 1 else many}"


def _plain(text: str) -> str:
    """Text that any terminal can take: file names need not be UTF-8."""
    from striate.viz.text import printable

    return printable(text)


class _Bar:
    """A progress bar that goes away."""

    def __init__(self, display: Any, label: str):
        self.display = display
        self.label = label

    def __enter__(self) -> "_Bar":
        return self

    def __call__(self, done: int, total: int) -> None:
        self.display.progress(self.label, done, total)

    def __exit__(self, *_: object) -> None:
        self.display.close()
