"""Fine-tuning: which stages of a network with trained weights learn, from which epoch on, and how fast.

The new head learns first, alone, so that its first, wild gradients do not undo what the body knows. Then stages join
it, the later the smaller their rate: what is near the image is general (Yosinski et al. 2014, "How transferable are
features in deep neural networks?"). The rates and the unfreezing from the last stage on are those of Howard and Ruder
2018 ("Universal Language Model Fine-tuning for Text Classification", section 3.2: each layer learns at 1/2.6 of the
rate of the next; section 3.3: one more in each epoch).
"""

from collections.abc import Sequence
from dataclasses import replace

from torch import nn

from striate.config import Resolved, TrainSettings
from striate.engine.optimizers import DEFAULT_LR, LearningGroup, peak_lr
from striate.errors import UsageError, did_you_mean
from striate.models.contract import Classifier
from striate.models.stages import parameter_stages

LAYER_DECAY = 1 / 2.6
USES = {  # settings of the group "transfer" and the ways of transfer that read them
    "classifier": ("features", "auto"),
    "layer": ("features",),
    "penalty": ("features", "auto"),
    "folds": ("features", "auto"),
    "cache": ("features", "auto"),
    "unfreeze": ("finetune",),
    "head_epochs": ("finetune", "auto"),
    "gradual": ("finetune", "auto"),
    "layer_decay": ("finetune", "auto"),
    "teacher": ("none", "finetune"),
}


TRAINING_ONLY = (  # settings that a classifier fitted on features does not read
    *("augment", "mixup", "cutmix", "accumulate", "optimizer", "lr", "momentum", "nesterov", "schedule", "warmup"),
    *("patience", "watch", "weight_decay", "decay_all", "l1", "label_smoothing", "class_weights", "clip", "ema"),
    "compile",
)


def check_transfer(resolved: Resolved) -> None:
    """Refuse settings of transfer that would do nothing.

    Raises:
        UsageError: transfer without weights, or a setting that the way of transfer does not read.
    """
    settings = resolved.settings
    way, usual = settings.transfer, TrainSettings()
    # A file of settings, such as another run's, names all of them: what is as usual was not asked for.
    given = {name for name, source in resolved.sources.items() if source not in ("default", "features")}
    asked = {name for name in given if getattr(settings, name) != getattr(usual, name)}
    asked -= {"augment"} if settings.augment == "none" else set()
    asked -= {"lr"} if settings.lr == DEFAULT_LR[settings.optimizer] else set()
    if way != "none" and settings.weights in (None, "none"):
        raise UsageError(
            f"--transfer {way} takes something over from trained weights, and there are none: give --weights FILE, an "
            "official checkpoint ('striate models NAME' lists them), or --from RUN."
        )
    for name, ways in USES.items():
        if name in asked and way not in ways:
            raise UsageError(
                f"--{name.replace('_', '-')} does nothing with --transfer {way}: it is for "
                f"{' and '.join(f'--transfer {other}' for other in ways)}."
            )
    useless = [name for name in TRAINING_ONLY if name in asked]
    if way == "features" and useless:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in useless)
        raise UsageError(
            f"{flags}: nothing is trained by steps with --transfer features, so take it away; --transfer finetune does."
        )
    for name in ("temperature", "teacher_share"):
        if name in asked and settings.teacher is None:
            raise UsageError(f"--{name.replace('_', '-')} does nothing without a --teacher.")


def settle(resolved: Resolved) -> Resolved:
    """Decide what a way of transfer leaves open."""
    settings = resolved.settings
    if settings.transfer == "features" and settings.augment == "auto":
        return resolved.because("features", augment="none")  # which sees every image once
    if settings.transfer != "finetune":
        return resolved
    open_ones = {
        "head_epochs": 0 if settings.epochs == 1 else max(1, settings.epochs // 5),
        "layer_decay": round(LAYER_DECAY, 4),
    }
    return resolved.because(
        "finetune", **{n: value for n, value in open_ones.items() if getattr(settings, n) == "auto"}
    )


def learning_groups(network: nn.Module, settings: TrainSettings) -> tuple[LearningGroup, ...]:
    """The stages of a network that is fine-tuned, shallow to deep; none where everything learns alike.

    Raises:
        UsageError: an ``unfreeze`` that is no number of stages.
    """
    if settings.transfer != "finetune":
        return ()
    assert isinstance(network, Classifier)
    assert settings.head_epochs != "auto" and settings.layer_decay != "auto"
    stages = parameter_stages(network)
    *body, last = stages
    free = _unfrozen(settings.unfreeze, body)
    groups: list[LearningGroup] = []
    for depth, name in enumerate(reversed(body)):
        start = settings.head_epochs + (depth if settings.gradual else 0)
        groups.append(
            LearningGroup(
                name=name,
                parameters=stages[name],
                scale=settings.layer_decay ** (depth + 1),
                start=start if depth < free and start < settings.epochs else None,
            )
        )
    return (*reversed(groups), LearningGroup(name=last, parameters=stages[last]))


def _unfrozen(text: str, body: Sequence[str]) -> int:
    if text == "all":
        return len(body)
    if text.isdecimal() and int(text) <= len(body):
        return int(text)
    raise UsageError(
        f"--unfreeze {text!r} is neither 'all' nor a number of stages from 0 to {len(body)} "
        f"({', '.join(body)}).{did_you_mean(text, ['all'])}"
    )


def schedule_table(network: nn.Module, groups: Sequence[LearningGroup], settings: TrainSettings) -> list[str]:
    """Lines that show each stage with its parameters, its rate and when it learns."""
    lr = peak_lr(settings)
    rows = [("stage", "parameters", "learning rate", "learns")]
    for group in groups:
        count = sum(network.get_parameter(name).numel() for name in group.parameters)
        when = "never: frozen" if group.start is None else f"from epoch {group.start + 1}"
        when += "" if group.stop is None else f" to {group.stop}, then frozen"
        rows.append((group.name, f"{count:,}", "-" if group.start is None else f"{lr * group.scale:.2g}", when))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return [
        f"  {name:<{widths[0]}}  {count:>{widths[1]}}  {rate:>{widths[2]}}  {when}" for name, count, rate, when in rows
    ]


def frozen_stages(groups: Sequence[LearningGroup]) -> list[str]:
    """The names of the stages that keep the weights that they came with."""
    return [group.name for group in groups if group.start is None]


def freeze(network: nn.Module, stages: Sequence[str]) -> None:
    """Mark the parameters of some stages as frozen, as they were in training."""
    if stages and isinstance(network, Classifier):
        for stage, names in parameter_stages(network).items():
            for name in names:
                network.get_parameter(name).requires_grad_(stage not in stages)


def with_all_open(groups: Sequence[LearningGroup]) -> tuple[LearningGroup, ...]:
    """The groups with whatever learns at all learning from the start: what takes the most time and memory."""
    return tuple(group if group.start is None else replace(group, start=0, stop=None) for group in groups)
