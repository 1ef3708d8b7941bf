"""The command ``striate``: finds the sub-command, turns errors into one message and an exit code.

Only click is imported here, so that ``--help`` answers at once.
"""

import importlib
import os
import sys
from typing import Any, NoReturn

import click

from striate.errors import StriateError, did_you_mean

# name -> (module, one line)
COMMANDS = {
    "train": ("striate.cli.train", "Train a model on data, or go on with a run that was stopped."),
    "evaluate": ("striate.cli.evaluate", "Measure a run or model file on a split."),
    "predict": ("striate.cli.predict", "Predict images, folders, patterns or standard input."),
    "explain": ("striate.cli.explain", "Show why a model does what it does: what a detector learns from."),
    "embed": ("striate.cli.embed", "Write what a model makes of many images at one of its layers into a file."),
    "search": ("striate.cli.search", "Find the images that are most like others, by their embeddings."),
    "cluster": ("striate.cli.cluster", "Put images into clusters by their embeddings."),
    "map": ("striate.cli.map", "Draw a two-dimensional map of images by their embeddings, as a page."),
    "inspect": ("striate.cli.inspect", "Show a network's layers, shapes, parameters, compute, memory, fields."),
    "inspect conv": ("striate.cli.inspect_conv", "Work out one convolution: sizes, parameters, compute, a picture."),
    "models": ("striate.cli.models", "List the models that can be trained."),
    "data": ("striate.cli.data", "Check, count, show and split data."),
    "runs": ("striate.cli.runs", "List, show and compare runs."),
    "study": ("striate.cli.study", "Measure the field's classic claims again on this machine."),
}

INTERRUPTED = 130  # the shell's own code for Ctrl-C; a training run that can be resumed exits with 7
OUT_OF_MEMORY = 6


class Striate(click.Group):
    """Loads a sub-command when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of the work."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of one sub-command."""
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(COMMANDS[cmd_name][0]).command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """As click does, with commands of two words, and with the nearest commands where there is no such one."""
        words = " ".join(args[:2])
        if len(args) > 1 and words in COMMANDS:
            return words, self.get_command(ctx, words), args[2:]
        if args and args[0] not in COMMANDS:
            ctx.fail(f"there is no command {args[0]!r}.{did_you_mean(args[0], COMMANDS)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of sub-commands, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, help) for name, (_, help) in COMMANDS.items()])


@click.command(
    cls=Striate,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
    epilog="'striate train digits' trains on a sample that ships with striate. 'striate COMMAND --help' tells more.",
)
@click.version_option(package_name="striate", message="%(prog)s %(version)s")
def striate() -> None:
    """From images to a convolutional network that you understand and can ship."""


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit.

    0 done, 1 unexpected, 2 usage, 3 data, 4 model file, 5 diverged, 6 out of memory, 7 interrupted and resumable.
    """
    try:
        code = striate.main(args=arguments, prog_name="striate", standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except StriateError as error:
        fail(str(error), error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        fail("interrupted.", INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        if os.environ.get("STRIATE_TRACEBACK"):
            raise
        if _out_of_memory(error):
            fail("out of memory. Use a smaller --batch, --size or model.", OUT_OF_MEMORY)
        fail(
            f"unexpected {type(error).__name__}: {error}\nThis is a fault of striate, not yours. With "
            "STRIATE_TRACEBACK=1 the same command says where it happened; please report that.",
            1,
        )


def _out_of_memory(error: Exception) -> bool:
    if "torch" in sys.modules and isinstance(error, RuntimeError):
        from striate.engine.fit import out_of_memory

        return out_of_memory(error)
    return isinstance(error, MemoryError)


def fail(message: str, code: int) -> NoReturn:
    """One message on standard error, and an exit code."""
    click.echo(f"striate: {message}", err=True)
    sys.exit(code)
