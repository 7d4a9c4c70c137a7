"""How a run is laid out over devices: copies of the model, shards, cut matrices and cut sequences."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields

from llamero.errors import SettingError, nearest
from llamero.model.config import Config


@dataclass(frozen=True)
class Layout:
    """Counts of devices along each way of sharing the work; their product is the number of devices.

    replicate: groups of devices that each hold the whole state and see other sequences of a batch.
    shard: devices within such a group that each hold a part of the state, and see other sequences too (Rajbhandari et
    al. 2020, stage 3). context: devices that hold parts of the same sequences. tensor: devices that hold parts of the
    same matrices, and see the same tokens (Shoeybi et al. 2019); the nearest neighbours.
    """

    replicate: int = 1
    shard: int = 1
    context: int = 1
    tensor: int = 1

    def __post_init__(self) -> None:
        for name, count in asdict(self).items():
            if not isinstance(count, int) or count < 1:
                raise SettingError(f"layout: {name} must be a whole number of at least 1, got {count!r}")

    @classmethod
    def parse(cls, text: str) -> Layout:
        """A layout from text such as "shard=8,tensor=2"; what is not named is 1."""
        counts: dict[str, int] = {}
        names = [field.name for field in fields(cls)]
        for part in text.split(","):
            name, _, count = (word.strip() for word in part.partition("="))
            if name not in names:
                raise SettingError(f"layout {text!r}: there is no {name!r} ({nearest(name, names)})")
            if name in counts or not count.isdecimal():
                raise SettingError(f"layout {text!r}: give each of {', '.join(names)} at most once, as {name}=NUMBER")
            counts[name] = int(count)
        return cls(**counts)

    def __str__(self) -> str:
        return ",".join(f"{name}={count}" for name, count in asdict(self).items() if count > 1) or "shard=1"

    @property
    def devices(self) -> int:
        return self.replicate * self.shard * self.context * self.tensor

    @property
    def shares(self) -> int:
        """Into how many parts the sequences of a batch are dealt out."""
        return self.replicate * self.shard

    def check(self, config: Config, context: int, sequences: int) -> None:
        """Refuse a layout that does not divide the model, the context or the sequences of a step.

        Raises SettingError, which names what would do.
        """
        step = 2 * self.context  # each device gets an early and a late part: even work
        if any(count % self.tensor for count in _cut(config)):
            raise SettingError(
                f"layout: tensor={self.tensor} does not divide the model's {config.heads} heads, {config.kv_heads} key "
                f"heads and {config.ffn_dim} inner values; the largest below that does: "
                f"{max(part for part in range(1, self.tensor) if not any(count % part for count in _cut(config)))}"
            )
        if self.context > 1 and context % step:
            raise SettingError(f"layout: context={self.context} needs sequences of a multiple of {step}, not {context}")
        if sequences % self.shares:
            raise SettingError(
                f"layout: {sequences} sequences a step cannot be dealt evenly to {self.shares} (replicate x shard); "
                f"take a batch of {-(-sequences // self.shares) * self.shares * context} tokens"
            )


def _cut(config: Config) -> tuple[int, int, int]:
    """What tensor parallelism divides."""
    return config.heads, config.kv_heads, config.ffn_dim
