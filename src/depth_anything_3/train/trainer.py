"""The training loop.

State is explicit: weights, their average, the optimiser and the step number, nothing else. Every batch and every
random choice is a function of the seed and the step, so a run that was stopped anywhere goes on exactly as if it had
not been.
"""

from __future__ import annotations

import copy
import json
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from types import FrameType

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

from depth_anything_3._files import atomic_path
from depth_anything_3.cfg import create_object, load_config
from depth_anything_3.errors import InputError
from depth_anything_3.model.da3 import DepthAnything3Net
from depth_anything_3.registry import MODEL_REGISTRY
from depth_anything_3.train import initialise
from depth_anything_3.train.batch import Batch
from depth_anything_3.train.camera_norm import FoldableNorm, fold, unfold
from depth_anything_3.train.checkpoints import newest, read_state, write_state
from depth_anything_3.train.confidence import begin_confidence
from depth_anything_3.train.config import TrainConfig
from depth_anything_3.train.curves import Curves
from depth_anything_3.train.data import make_batch
from depth_anything_3.train.distributed import World, exchanging, parallelise, whole
from depth_anything_3.train.labels import Labeller
from depth_anything_3.train.lora import adapt, merge
from depth_anything_3.train.objectives import Objective
from depth_anything_3.train.schedule import learning_rate
from depth_anything_3.types.options import PROCESS_RES
from depth_anything_3.zoo.checkpoints import build_network, resolve, save

_PRECISION = {"float32": None, "bfloat16": torch.bfloat16}
_MEASURED = 16  # batches that statistics are taken from
_MOMENTS = ("exp_avg", "exp_avg_sq")
Logger = Callable[[dict[str, float]], None]


def initial_network(config: TrainConfig) -> tuple[DepthAnything3Net, frozenset[str]]:
    """The network of a run, and the names of the parameters that come from another network.

    Raises:
        InputError: there is no checkpoint to start from, or nothing of its backbone fits.
    """
    network = new_network(config)
    initialise.from_scratch(network, config.seed)
    start, fresh = config.init, {name for name, _ in network.named_parameters()}
    if start.confidence and config.parallel == "fsdp":
        raise InputError("parallel", "'fsdp'", "'ddp' where only the confidence is trained: rows are kept together")
    if start.start != "scratch" and start.source is None:
        raise InputError("init.source", "nothing", f"a checkpoint, for init.start={start.start!r}")
    if start.start == "weights" and start.source is not None:
        fresh &= set(initialise.transfer(network, build_network(resolve(start.source)).state_dict()))
        if not any(n.startswith("backbone.") and n not in fresh for n, _ in network.named_parameters()):
            raise InputError("init.source", f"{start.source}, another network than {config.preset}", "one that fits")
    elif start.start == "dinov2" and start.source is not None:
        initialise.from_dinov2(network, initialise.read_dinov2(start.source))
    if start.matching:
        o = config.objective
        initialise.prepare_matching(
            network, blocks=o.correspondence_blocks, heads=o.correspondence_heads, seed=config.seed
        )
    loaded = frozenset(name for name, _ in network.named_parameters() if name not in fresh)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(start.trains(name))
    if start.confidence:
        begin_confidence(network)
    if start.lora_rank:
        adapt(network, start.lora_rank, config.seed)
    return network, loaded


def new_network(config: TrainConfig) -> DepthAnything3Net:
    """The network of a run as PyTorch builds it."""
    network: DepthAnything3Net = create_object(load_config(MODEL_REGISTRY[config.preset], argv=config.model))
    return network


class Trainer:
    """One run.

    Args:
        config: what to do.
        folder: for checkpoints, the log and the final weights.
        here: this process among all, see :func:`depth_anything_3.train.distributed.world`.
        logger: called with the numbers of every ``config.log_every``-th step, besides the log file.
    """

    def __init__(
        self, config: TrainConfig, folder: Path, *, here: World | None = None, logger: Logger | None = None
    ) -> None:
        for source, _ in config.sources:
            source.check()
        self.config, self.folder, self.logger = config, folder, logger
        self.here = here or World(0, 1, torch.device("cpu"))
        network, loaded = initial_network(config)
        self.objective = Objective(network, config.objective).to(self.here.device)
        self.step = 0
        self.stopping = False
        self.curves: Curves | None = None
        if config.tensorboard and self.here.first:
            self.curves = Curves(folder / "tensorboard")
        if self.objective.camera_norm is not None:
            self.objective.camera_norm.waits = True
        if newest(folder) is None:
            self._settle_camera_norm(loaded)
        if config.activation_checkpointing:
            recompute_blocks(self.objective.net)
        self.module = parallelise(self.objective, self.here, config.parallel)
        self.optimiser = make_optimiser(self.objective, config)
        self.average = Average(self.objective, config.optimiser.ema) if config.optimiser.ema else None
        self.labeller = Labeller(config.labels, self.here.device) if config.labels else None

    # The loop -----------------------------------------------------------------------------------------------

    def run(self, until: int | None = None) -> None:
        """Train from the newest checkpoint, or from the beginning, to the end of the last phase.

        SIGTERM and SIGINT finish the step, write a checkpoint and return.

        Args:
            until: stop at this step instead.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self.restore()
        end = min(self.config.steps, self.config.steps if until is None else until)
        with _StopOnSignal(self):
            started, last = time.perf_counter(), self.step
            while self.step < end and not self.here.any(self.stopping):
                shown = self.train_step()
                if self.step % self.config.log_every == 0 or self.step == end:
                    spent = time.perf_counter() - started
                    self._log(
                        {**self.here.mean(shown), "seconds": spent / (self.step - last), "skipped": self._skips()}
                    )
                    started, last = time.perf_counter(), self.step
                if self.step % self.config.save_every == 0:
                    self.save()
        self.save()

    def train_step(self) -> dict[str, float]:
        """One step; the means of the losses over this process's samples, and what else the log shows."""
        config = self.config
        phase, local = config.phase_at(self.step)
        rate = learning_rate(
            local, steps=phase.steps, peak=phase.learning_rate, warmup=phase.warmup, final=phase.final_rate
        )
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["rate"]
        self.objective.options = config.objective_of(phase)
        self.objective.train()
        self.optimiser.zero_grad(set_to_none=True)
        shown: dict[str, float] = {"step": self.step + 1}
        for index in range(config.accumulation):
            part = self.here.rank * config.accumulation + index
            for name, value in self._backward(part).items():
                shown[name] = shown.get(name, 0.0) + value / config.accumulation
        trained = [p for p in self.objective.parameters() if p.grad is not None]
        norm = whole(nn.utils.clip_grad_norm_(trained, config.optimiser.clip))
        good = bool(torch.isfinite(norm))  # one bad sample must not end a run of days; the log shows it
        if good:
            self.optimiser.step()
        if self.objective.camera_norm is not None:
            self.objective.camera_norm.follow(forget=not good)
        if self.average is not None:
            self.average.update(self.objective)
        self.step += 1
        return {**shown, "grad_norm": float(norm), "rate": rate}

    def _backward(self, part: int) -> dict[str, float]:
        config, precision = self.config, _PRECISION[self.config.precision]
        batch = self.batch(self.step, part)
        # All parts of a step draw alike: processes that disagree on what takes part cannot add up their gradients.
        seed = self.step * 1009
        labels = None
        if self.labeller is not None and self.labeller.active(self.step, config.seed):
            labels, _ = self.labeller.labels(batch, seed + part, precision)
        with exchanging(self.module, last=(part + 1) % config.accumulation == 0):
            losses = self.module(batch, labels, seed, precision)
            (losses["total"].mean() / config.accumulation).backward()
        shown = {name: float(value.detach().mean()) for name, value in losses.items()}
        return {**shown, "views": float(batch.views), "labels": float(labels is not None)}

    def batch(self, step: int, part: int = 0) -> Batch:
        """One part of a step's batch."""
        step = 0 if self.config.fixed_batch else step
        phase, _ = self.config.phase_at(step)
        made = make_batch(
            self.config.sources, phase.data, self.config.augment, seed=self.config.seed, step=step, part=part
        )
        return made.to(self.here.device)

    @torch.no_grad()
    def _settle_camera_norm(self, loaded: frozenset[str]) -> None:
        """Measure the token once. A loaded decoder reads the raw token: re-express its weights."""
        norm, decoder = self.objective.camera_norm, self.objective.net.cam_dec
        if norm is None or decoder is None:
            return
        self.objective.options = self.config.objective_of(self.config.phase_at(0)[0])
        tokens = _camera_tokens(self.objective, self.batch(0), 0)
        # A backbone from scratch changes fast at first: its token is followed as a plain average.
        norm.start_at(torch.cat(tokens), seen=None if loaded else 1)
        if any(name.startswith("cam_dec.") for name in loaded):
            unfold(decoder, norm)

    # State --------------------------------------------------------------------------------------------------

    def save(self) -> None:
        """Write a checkpoint, whole or not at all; all but the newest two are removed."""
        write_state(self.folder, self.objective, self.optimiser, self._extra(), self.step, self.here)

    def restore(self) -> bool:
        """Load the newest whole checkpoint, if there is one."""
        found = newest(self.folder)
        if found is None:
            return False
        extra = self._extra()
        self.step = read_state(found, self.objective, self.optimiser, extra)
        self._shorten_log()
        if self.curves is not None:
            self.curves.forget(self.step)
        return True

    def _extra(self) -> dict[str, Tensor]:
        return {} if self.average is None else {**self.average.weights, "count": self.average.count}

    def trained_network(self) -> DepthAnything3Net:
        """The network as inference reads it, on the CPU: averaged where an average is kept, the norm folded in.

        All processes call this together.
        """
        network = new_network(self.config)
        if self.config.init.lora_rank:
            adapt(network, self.config.init.lora_rank, self.config.seed)
        parameters: dict[str, Tensor] = dict(self.objective.net.named_parameters())
        if self.average is not None:
            parameters |= {name.removeprefix("net."): value for name, value in self.average.weights.items()}
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                parameter.copy_(whole(parameters[name].detach()).cpu())
        merge(network)
        if self.objective.camera_norm is not None and network.cam_dec is not None:
            fold(network.cam_dec, self._norm_of(network))
        return network.eval()

    def _norm_of(self, network: DepthAnything3Net) -> FoldableNorm:
        """The normalisation of the camera token for a network about to be exported.

        The decoder learned behind that of the current weights. Where a token varies little about a large mean, the
        small difference to the averaged weights is many deviations: the statistics move by it.
        """
        assert self.objective.camera_norm is not None
        norm = copy.deepcopy(self.objective.camera_norm).cpu()
        if self.average is None:
            return norm
        now: list[Tensor] = []
        averaged: list[Tensor] = []
        other = Objective(network, replace(self.config.objective, camera_norm=False)).to(self.here.device)
        for step in range(max(self.step - _MEASURED, 0), max(self.step, 1)):
            phase, _ = self.config.phase_at(step)
            options = self.config.objective_of(phase)
            self.objective.options, other.options, batch = options, options, self.batch(step)
            now += _camera_tokens(self.objective, batch, step * 1009)
            averaged += _camera_tokens(other, batch, step * 1009)
        network.cpu()
        norm.move(torch.cat(now).cpu(), torch.cat(averaged).cpu())
        return norm

    def export(self, folder: Path, *, half: bool = True) -> Path:
        """Write the trained network as a checkpoint that ``from_pretrained`` reads. All processes call this together.

        Args:
            folder: is made if it does not exist.
            half: in half precision.
        """
        network = self.trained_network()
        config = load_config(MODEL_REGISTRY[self.config.preset], argv=self.config.model)
        network = network.half() if half else network
        if self.here.first:
            largest = max(max(size) for size in self.config.phases[-1].data.sizes)
            save(
                network,
                folder,
                model_name=self.config.preset,
                config=config,
                process_res=min(largest, PROCESS_RES),
                overwrite=True,
            )
        self.here.barrier()
        return folder

    def skipped(self) -> Counter[str]:
        """Damaged samples that this process passed over, by what was wrong with them."""
        total: Counter[str] = Counter()
        for source, _ in self.config.sources:
            total.update(getattr(source, "skipped", {}))
        return total

    def _skips(self) -> float:
        """Damaged samples that all processes together passed over since they began."""
        return self.here.mean({"skipped": float(self.skipped().total())})["skipped"] * self.here.size

    def _shorten_log(self) -> None:
        """Forget what the log says of steps after the checkpoint: they are done again."""
        log = self.folder / "log.jsonl"
        if not self.here.first or not log.exists():
            return
        with atomic_path(log) as temporary, temporary.open("w") as file:
            file.writelines(line for line in log.open() if line.endswith("\n") and _step_of(line) <= self.step)

    def _log(self, numbers: dict[str, float]) -> None:
        if not self.here.first:
            return
        with (self.folder / "log.jsonl").open("a") as file:
            file.write(json.dumps({name: round(value, 6) for name, value in numbers.items()}) + "\n")
        if self.curves is not None:
            self.curves.add(numbers)
        if self.logger is not None:
            self.logger(numbers)


@torch.no_grad()
def _camera_tokens(objective: Objective, batch: Batch, seed: int) -> list[Tensor]:
    """What the camera decoder reads, before any normalisation, as (samples and views, channels); in full precision."""
    tokens: list[Tensor] = []
    reader = objective.camera_norm or objective.net.cam_dec
    assert reader is not None
    handle = reader.register_forward_pre_hook(lambda module, inputs: tokens.append(inputs[0].float().flatten(0, -2)))
    try:
        objective(batch, None, seed, None)
    finally:
        handle.remove()
    return tokens


def _step_of(line: str) -> int:
    return int(json.loads(line)["step"])


def make_optimiser(objective: Objective, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW with one parameter group per learning rate and decay."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    o = config.optimiser
    for name, parameter in objective.named_parameters():
        if not parameter.requires_grad:
            continue
        decays = parameter.ndim >= 2 and not name.endswith(("_token", "pos_embed")) and not config.init.confidence
        decay = o.weight_decay if decays else 0.0
        part = name.removeprefix("net.").partition(".")[0]
        rate = {"cam_dec": o.camera_decoder_rate, "backbone": o.backbone_rate}.get(part, 1.0)
        groups.setdefault((rate, decay), []).append(parameter)
    optimiser = torch.optim.AdamW(
        [{"params": p, "rate": rate, "weight_decay": decay} for (rate, decay), p in groups.items()],
        lr=0.0,
        betas=o.betas,
        # One pass over the weights instead of one for every operation; a GPU would want its step counts there, too.
        fused=all(p.device.type == "cpu" for p in objective.parameters()),
    )
    _begin_state(optimiser)
    return optimiser


def _begin_state(optimiser: torch.optim.AdamW) -> None:
    """The state that AdamW gives a parameter with its first gradient, for all of them now.

    Some parameters wait long for their first gradient or never get one; checkpoints hold the state of all.
    """
    for group in optimiser.param_groups:
        for p in group["params"]:
            moments = {name: torch.zeros_like(p, memory_format=torch.preserve_format) for name in _MOMENTS}
            optimiser.state[p] = {"step": torch.tensor(0.0), **moments}


def recompute_blocks(network: DepthAnything3Net) -> None:
    """Let the backward pass recompute each transformer block instead of keeping its insides."""
    for block in network.backbone.pretrained.blocks:
        run = block.forward
        block.forward = lambda *inputs, run=run: checkpoint(
            run, *inputs, use_reentrant=False, context_fn=_kernels_of_now
        )


def _kernels_of_now() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Contexts for a pass and for its repetition, which must take the same attention kernel."""
    allowed = {
        SDPBackend.MATH: torch.backends.cuda.math_sdp_enabled(),
        SDPBackend.FLASH_ATTENTION: torch.backends.cuda.flash_sdp_enabled(),
        SDPBackend.EFFICIENT_ATTENTION: torch.backends.cuda.mem_efficient_sdp_enabled(),
        SDPBackend.CUDNN_ATTENTION: torch.backends.cuda.cudnn_sdp_enabled(),
    }
    return nullcontext(), sdpa_kernel([kernel for kernel, yes in allowed.items() if yes])


class Average:
    """Exponential moving average of the trained parameters.

    Args:
        objective: whose parameters are followed.
        decay: share that stays at every step; less during the first steps.
    """

    def __init__(self, objective: Objective, decay: float) -> None:
        self.decay = decay
        self.weights = {n: p.detach().clone() for n, p in objective.named_parameters() if p.requires_grad}
        self.count = torch.zeros((), dtype=torch.int64)

    @torch.no_grad()
    def update(self, objective: Objective) -> None:
        """Follow the weights by one step."""
        self.count += 1
        decay = min(self.decay, float((1 + self.count) / (10 + self.count)))
        parameters = dict(objective.named_parameters())
        for name, value in self.weights.items():
            value.lerp_(parameters[name].detach(), 1 - decay)


class _StopOnSignal:
    """Turns SIGTERM and SIGINT into a request to stop after the step; only the main thread can listen."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.previous: dict[int, object] = {}

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self.previous[number] = signal.signal(number, self._stop)

    def __exit__(self, *exception: object) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.trainer.stopping = True
