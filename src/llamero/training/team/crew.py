"""A team of many processes, joined by torch's process groups in the shape of a layout."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Final

import torch
from torch import Tensor, distributed
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from llamero.errors import DeviceError, SettingError
from llamero.training.checkpoints.pieces import first_holder, local, place_of
from llamero.training.data.batch import Batch
from llamero.training.team.heart import PATIENCE, Heart
from llamero.training.team.layout import Layout
from llamero.training.team.team import Alone, Team

_SLOW: Final = timedelta(minutes=10)  # a process that lives and is waited for longer is stuck; a dead one is found soon
_WRITING: Final = timedelta(hours=1)  # processes wait for each other's files


class Crew:
    """One of many processes that train one model. Made by `join`.

    Neighbours hold parts of the same matrices (tensor), then of the same sequences (context); then come shards, then
    copies. mesh: (replicate, shard x context, tensor), over which parameters are cut. context, tensor: the meshes of
    this process's neighbours, None where there are none.
    """

    def __init__(self, layout: Layout, device: str, heart: Heart) -> None:
        self.layout, self.device, self.heart = layout, device, heart
        self.process, self.processes = distributed.get_rank(), distributed.get_world_size()
        kind = torch.device(device).type
        self.mesh = init_device_mesh(
            kind,
            (layout.replicate, layout.shard * layout.context, layout.tensor),
            mesh_dim_names=("replicate", "shard", "tensor"),
        )
        self.context = self._neighbours(kind) if layout.context > 1 else None
        self.tensor = self.mesh["tensor"] if layout.tensor > 1 else None
        self._saving = distributed.new_group(backend="gloo", timeout=_WRITING)
        self._waiting = distributed.new_group(backend="gloo", timeout=_WRITING)

    def _neighbours(self, kind: str) -> DeviceMesh:
        shape = (self.layout.shares, self.layout.context, self.layout.tensor)
        return init_device_mesh(kind, shape, mesh_dim_names=("share", "context", "tensor"))["context"]

    @property
    def rank(self) -> int:
        return self.process // (self.layout.context * self.layout.tensor)

    @property
    def size(self) -> int:
        return self.layout.shares

    @property
    def lead(self) -> bool:
        return self.process == 0

    def share(self, batch: Batch) -> Batch:
        return batch.share(self.rank, self.size)

    def total(self, value: float) -> float:
        return sum(self._gathered(value)[:: self.layout.tensor])  # neighbours in `tensor` have the same

    def any(self, flag: bool) -> bool:
        return any(self._gathered(float(flag)))

    def clip(self, parameters: Mapping[str, Tensor], limit: float) -> float:
        gradients = [parameter.grad for parameter in parameters.values() if parameter.grad is not None]
        held = [local(gradient) for gradient in gradients if first_holder(gradient)]
        own = torch.nn.utils.get_total_norm(held).item() if held else 0.0
        norm = sum(self._gathered(own**2)) ** 0.5  # in the same order on all processes: the same bits
        scale = limit / (norm + 1e-6)  # as torch has it
        for gradient in gradients if scale < 1 else ():
            local(gradient).mul_(scale)
        return float(norm)

    def whole(self, tensor: Tensor) -> Tensor:
        place, values = place_of(tensor), torch.zeros(tensor.shape, dtype=tensor.dtype, device=tensor.device)
        if first_holder(tensor) and place.size:
            values[place.slices] = local(tensor)
        distributed.all_reduce(values)
        return values

    def exchange(self, text: str) -> list[str]:
        own = torch.frombuffer(bytearray(text.encode() or b" "), dtype=torch.uint8)
        sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.processes)]
        distributed.all_gather(sizes, torch.tensor([own.numel()]), group=self._saving)
        longest = max(int(size) for size in sizes)
        texts = [torch.empty(longest, dtype=torch.uint8) for _ in sizes]
        distributed.all_gather(texts, torch.nn.functional.pad(own, (0, longest - own.numel())), group=self._saving)
        pairs = zip(texts, sizes, strict=True)
        return [values[: int(size)].numpy().tobytes().decode() for values, size in pairs]

    def barrier(self) -> None:
        distributed.monitored_barrier(self._waiting, _WRITING)

    def _gathered(self, value: float) -> list[float]:
        """The values of all processes, in order."""
        own = torch.tensor([value], dtype=torch.float64, device=self.device)
        values = [torch.zeros_like(own) for _ in range(self.processes)]
        distributed.all_gather(values, own)
        return [each.item() for each in values]


@contextmanager
def join(layout: Layout | None = None, device: str = "cpu", patience: float = PATIENCE) -> Iterator[Team]:
    """The team of all processes that torchrun started for this run; of one process where it started none.

    layout: without one the state is cut into as many shards as there are processes. patience: seconds without a sign
    of life after which a process counts as dead and the others stop. Raises SettingError for a layout of another
    number of processes, DeviceError where another process failed.
    """
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    layout = layout or Layout(shard=processes)
    if layout.devices != processes:
        raise SettingError(
            f"layout {layout} is for {layout.devices} processes and there are {processes}: "
            f"start it with torchrun, --nproc-per-node times --nnodes being {layout.devices}, or change the layout"
        )
    if processes == 1:
        yield Alone(device=device)
        return
    if device.partition(":")[0] == "cuda":
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    found, rank, _ = next(rendezvous("env://", timeout=_SLOW))
    life = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")  # torchrun's store still knows those who died
    store: Any = PrefixStore(f"life/{life}", found)
    heart = Heart(PrefixStore("heart", store.clone()), rank, processes, patience)
    try:
        distributed.init_process_group(store=store, rank=rank, world_size=processes, timeout=_SLOW)
        crew = Crew(layout, device, heart)
        yield crew
        heart.hand_over()
        crew.barrier()  # whoever holds the store must not leave first
    except BaseException as error:
        _explain(heart, error)
        raise
    heart.rest()
    distributed.destroy_process_group()


def _explain(heart: Heart, error: BaseException) -> None:
    """Tell the others of an error here, or find out which of them is behind it. Raises DeviceError then."""
    if isinstance(error, SystemExit) and not error.code:
        return
    if isinstance(error, distributed.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error)):
        found = heart.verdict()
        if found:
            raise DeviceError(found) from error
    heart.fail(f"{type(error).__name__}: {error}")
