"""Knowledge distillation: a classifier that learns another one's soft answers too.

Hinton, Vinyals, Dean: "Distilling the Knowledge in a Neural Network", 2015 (arXiv:1503.02531), section 2: the
cross-entropy with the teacher's probabilities at temperature T, and that with the truth; the first one's gradients
shrink with 1/T^2, so it is multiplied by T^2 (section 2.1).

Letters: B images, C channels, H height, W width, K classes.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from striate.core.batch import Batch
from striate.errors import UsageError
from striate.tasks.classification import Classification

LUMA = (0.299, 0.587, 0.114)  # ITU-R 601-2, as Pillow turns colour into grey


class Teacher:
    """A trained network that answers about a student's images.

    It is no module of the student's: it does not learn, and no file of the student holds it.

    Args:
        network: from (B, C, H, W) images to logits; put into evaluation mode.
        knows: its classes.
        asked: the student's classes; the teacher's other ones are left out of its answers.
        size: height and width that it takes.
        scale: per channel, of its own normalisation ``pixel * scale + offset``, pixels from 0 to 255.
        offset: the same.
        student_scale: of the student's normalisation.
        student_offset: the same.

    Raises:
        UsageError: the student has a class that the teacher does not know.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        knows: Sequence[str],
        asked: Sequence[str],
        size: tuple[int, int],
        scale: Tensor,
        offset: Tensor,
        student_scale: Tensor,
        student_offset: Tensor,
    ):
        unknown = [name for name in asked if name not in knows]
        if unknown:
            raise UsageError(
                f"the teacher does not know {len(unknown)} of the classes, as {unknown[0]!r}; it knows "
                f"{', '.join(list(knows)[:8])}{', ...' if len(knows) > 8 else ''}. Take one trained on these classes."
            )
        self.network = network.eval().requires_grad_(False)
        self.size = size
        self.columns = torch.tensor([list(knows).index(name) for name in asked])
        self.scale, self.offset, self.student_scale, self.student_offset = (
            values.view(-1, 1, 1) for values in (scale, offset, student_scale, student_offset)
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> "Teacher":
        """Itself: copies of a task, as for averaged weights, ask the same teacher."""
        return self

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """(B, K) float32 logits for the student's normalised (B, C, H, W) images and its classes."""
        device = images.device
        self.network.to(device)
        pixels = (images.float() - self.student_offset.to(device)) / self.student_scale.to(device)
        wanted = self.scale.shape[0]
        if wanted == 1 and pixels.shape[1] == 3:
            pixels = (pixels * pixels.new_tensor(LUMA).view(-1, 1, 1)).sum(1, keepdim=True)
        pixels = pixels.expand(-1, wanted, -1, -1)
        if tuple(pixels.shape[2:]) != self.size:
            pixels = F.interpolate(pixels, size=self.size, mode="bilinear", antialias=True)
        logits: Tensor = self.network(pixels * self.scale.to(device) + self.offset.to(device))
        return logits.float()[:, self.columns.to(device)]


class Distillation(Classification):
    """Cross-entropy with the truth and with a teacher's softened answers.

    Args:
        network: the student.
        classes: class names.
        teacher: knows them all.
        temperature: T, of both softmaxes.
        share: weight of the teacher's answers; the truth has the rest.
        label_smoothing: as of `Classification`.
        class_weights: the same.
    """

    def __init__(
        self,
        network: nn.Module,
        classes: Sequence[str],
        *,
        teacher: Teacher,
        temperature: float,
        share: float,
        label_smoothing: float = 0.0,
        class_weights: Sequence[float] | None = None,
    ):
        super().__init__(network, classes, label_smoothing=label_smoothing, class_weights=class_weights)
        self.teacher = teacher
        self.temperature = temperature
        self.share = share

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The losses of `Classification` times ``1 - share``, and the teacher's."""
        logits = self.training_logits(batch.images)
        losses = self.losses(logits, batch.labels)
        soft = F.kl_div(
            F.log_softmax(logits[""].float() / self.temperature, dim=1),
            F.log_softmax(self.teacher(batch.images) / self.temperature, dim=1),
            reduction="batchmean",
            log_target=True,
        )
        losses = {name: (1 - self.share) * loss for name, loss in losses.items()}
        return losses | {"distillation": self.share * self.temperature**2 * soft}

    def first_loss(self) -> float:
        """Not known: it depends on how sure the teacher is."""
        return math.nan
