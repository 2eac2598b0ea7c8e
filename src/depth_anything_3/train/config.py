"""What a training run is, as typed data. Recipes return it; ``dataclasses.replace`` derives one from another."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from depth_anything_3.train.augment import AugmentOptions
from depth_anything_3.train.confidence import gives_confidence
from depth_anything_3.train.data import Source, ViewOptions
from depth_anything_3.train.objectives import ObjectiveOptions

Precision = Literal["float32", "bfloat16"]
Start = Literal["scratch", "weights", "dinov2"]


@dataclass(frozen=True, kw_only=True)
class InitOptions:
    """Weights to start from.

    Attributes:
        start: ``scratch``; ``weights``, of one of our networks, taking over whatever fits; or ``dinov2``, for the
            backbone, with the rest from scratch.
        source: hub id, folder or file of the checkpoint.
        frozen: parameters whose name contains one of these are not trained.
        only: nothing but parameters whose name begins with one of these is trained; nothing here trains all.
        lora_rank: if positive, only low-rank changes of the transformer are trained, see
            :mod:`depth_anything_3.train.lora`.
        matching: begin with attention that looks for what is alike in other views, see
            :func:`~depth_anything_3.train.initialise.prepare_matching`.
        confidence: nothing but the confidence is trained, from the beginning, see
            :func:`~depth_anything_3.train.confidence.begin_confidence`; ``frozen`` and ``only`` say nothing then.
    """

    start: Start = "scratch"
    source: str | None = None
    frozen: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    lora_rank: int = 0
    matching: bool = False
    confidence: bool = False

    def trains(self, name: str) -> bool:
        """Whether a parameter of this name is trained."""
        if self.confidence:
            return gives_confidence(name)
        chosen = not self.only or name.startswith(self.only)
        return chosen and not any(part in name for part in self.frozen)


@dataclass(frozen=True, kw_only=True)
class OptimiserOptions:
    """AdamW.

    Attributes:
        betas, weight_decay, clip: as usual; vectors, tokens and positions do not decay.
        backbone_rate, camera_decoder_rate: factors on the learning rate of these parts.
        ema: decay of the average of the weights that is kept beside them; 0 keeps none.
    """

    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.05
    clip: float = 1.0
    backbone_rate: float = 1.0
    camera_decoder_rate: float = 1.0
    ema: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A stretch of training with one schedule.

    Attributes:
        steps: how many.
        learning_rate, warmup, final_rate: see :func:`~depth_anything_3.train.schedule.learning_rate`.
        data: views and sizes.
        objective: instead of the run's own.
    """

    steps: int
    learning_rate: float
    data: ViewOptions
    warmup: int = 0
    final_rate: float = 1e-6
    objective: ObjectiveOptions | None = None


@dataclass(frozen=True, kw_only=True)
class LabelOptions:
    """Teacher-made depth.

    Attributes:
        teacher: hub id, folder or file of the teacher's checkpoint.
        from_step: first step that is supervised by aligned labels of the teacher instead of the data's depth
            (paper: 120 000 of 200 000).
        share: of the steps from there on.
        align: to the data's depth; otherwise labels stay in the teacher's own scale and shift.
        simulate_sensor: the data's depth is exact; before anything sees it, make it as sparse and noisy as a sensor's.
        sensor_noise: standard deviation of the relative error of that sensor.
    """

    teacher: str | None = None
    from_step: int = 0
    share: float = 1.0
    align: bool = True
    simulate_sensor: bool = False
    sensor_noise: float = 0.05


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A training run.

    Attributes:
        name: of the recipe.
        preset: architecture, of :data:`depth_anything_3.registry.MODEL_REGISTRY`.
        model: changes of the architecture, such as ``net.alt_start=0``.
        objective: losses.
        phases: one after the other.
        sources: where samples come from, with weights.
        init, optimiser, labels, augment: see there.
        precision: of the network; weights and losses are float32.
        accumulation: parts that a step's batch of one process consists of, one after the other.
        parallel: how several processes share the work.
        activation_checkpointing: recompute transformer blocks in the backward pass instead of keeping their insides.
        save_every: steps between checkpoints.
        log_every: steps between lines of the log.
        tensorboard: also write the log as event files, into the folder ``tensorboard`` of the run, while it goes on.
        fixed_batch: every step sees the batch of the first one, to find out whether a network can learn it by heart.
        seed: of everything.
    """

    name: str
    preset: str
    objective: ObjectiveOptions
    phases: tuple[Phase, ...]
    sources: tuple[tuple[Source, float], ...]
    model: tuple[str, ...] = ()
    init: InitOptions = field(default_factory=InitOptions)
    optimiser: OptimiserOptions = field(default_factory=OptimiserOptions)
    labels: LabelOptions | None = None
    augment: AugmentOptions = field(default_factory=AugmentOptions)
    precision: Precision = "bfloat16"
    accumulation: int = 1
    parallel: Literal["ddp", "fsdp"] = "ddp"
    activation_checkpointing: bool = False
    save_every: int = 1000
    log_every: int = 50
    tensorboard: bool = False
    fixed_batch: bool = False
    seed: int = 0

    @property
    def steps(self) -> int:
        """Of all phases together."""
        return sum(phase.steps for phase in self.phases)

    def objective_of(self, phase: Phase) -> ObjectiveOptions:
        """The losses of a phase: its own, or those of the run."""
        return phase.objective or self.objective

    def phase_at(self, step: int) -> tuple[Phase, int]:
        """The phase of a step, and the step counted from its beginning."""
        for phase in self.phases:
            if step < phase.steps:
                return phase, step
            step -= phase.steps
        return self.phases[-1], self.phases[-1].steps
