"""llamero's native core (native/bind.cpp and native/bind_tokenizer.cpp)."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

def levels() -> list[str]:
    """Instruction-set levels that run here, weakest first."""

def usable_cores() -> int:
    """Processor cores that this process may use."""

class Array:
    """Rows of floats; recycled by its machine when dropped."""

    @property
    def shape(self) -> tuple[int, int]: ...
    def numpy(self) -> NDArray[np.float32]:
        """A view of the rows; it keeps them alive."""

class Weight:
    """A stored matrix, in the buffer that holds it, or a vector of floats."""

    def __init__(self, kind: int, rows: int, k: int, buffer: object) -> None:
        """rows of k values of the type of ggml's number `kind`; the buffer is kept and not copied."""

    @staticmethod
    def vector(values: NDArray[np.float32]) -> Weight:
        """A copy of the values."""

    @property
    def shape(self) -> tuple[int, ...]: ...

class Store:
    """Memory for keys and values."""

    def __init__(self, layers: int, kv_heads: int, head_dim: int, pages: int, page: int, kind: str) -> None: ...
    @property
    def nbytes(self) -> int:
        """Address space taken; memory is used only as rows are written."""

    def copy(self, source: int, target: int, rows: int) -> None:
        """The first `rows` tokens of one page, in all layers, into another."""

class Step:
    """What all layers of one step share."""

    @property
    def tokens(self) -> int: ...

def begin(
    store: Store | None,
    starts: Sequence[int],
    lengths: Sequence[int],
    pages: Sequence[Sequence[int]],
    inv_freq: NDArray[np.float64],
) -> Step:
    """Plan a step: for each sequence its first new position, its number of new tokens, and its pages."""

def exponentials(x: NDArray[np.float32], y: NDArray[np.float32], level: str = "") -> None:
    """y = e^x."""

def choose(
    logits: NDArray[np.float32],
    temperature: float,
    top_k: int,
    top_p: float,
    least: float,
    uniform: float,
    level: str = "",
) -> int:
    """The token that the chain of samplers chooses, or -1 where rounding could decide."""

class Machine:
    """The operations, on a pool of threads of its own."""

    def __init__(self, threads: int, level: str = "") -> None:
        """level: one of levels(), or '' for the strongest."""

    @property
    def threads(self) -> int: ...
    @property
    def level(self) -> str: ...
    def set_deterministic(self, on: bool) -> None:
        """Whether no bit of a token's results may depend on the tokens beside it. Prompts get slower."""

    def array(self, values: NDArray[np.float32]) -> Array:
        """A copy of the values as an Array."""

    def embed(self, table: Weight, ids: Sequence[int]) -> Array: ...
    def rms_norm(self, x: Array, weight: Weight, eps: float) -> Array: ...
    def matmul(self, x: Array, *weights: Weight) -> tuple[Array, ...]: ...
    def add_low_rank(
        self, x: Array, products: Sequence[Array], changes: Sequence[tuple[int, Sequence[int], Weight, Weight]]
    ) -> None: ...
    def rope(self, x: Array, step: Step) -> Array: ...
    def attention(self, q: Array, k: Array, v: Array, step: Step, layer: int) -> Array: ...
    def swiglu(self, gate: Array, up: Array) -> Array: ...
    def add(self, x: Array, y: Array) -> Array: ...
    def take(self, x: Array, rows: Sequence[int]) -> Array: ...
    def multiply(self, kind: str, rounds: int) -> int:
        """Keep every thread's units for "int8", "bf16" or "f32" busy; returns multiplications and additions done.

        0 where the processor has no such unit.
        """

    def read(self, buffer: NDArray[np.uint8]) -> int:
        """Read a buffer once, on all threads; returns its bytes."""

class Encoder:
    """Byte-pair encoding of a fixed vocabulary; see tokenizer/merges.py."""

    def __init__(
        self,
        form: int,
        buffer: NDArray[np.uint8],
        starts: NDArray[np.uint64],
        ends: NDArray[np.uint64],
        kinds: NDArray[np.uint8],
        *,
        pattern: int,
        whole: bool,
        prefix: bool,
        collapse: bool,
        bos: int,
        unknown: int,
    ) -> None: ...
    def use_merges(self, buffer: NDArray[np.uint8], starts: NDArray[np.uint64], ends: NDArray[np.uint64]) -> None: ...
    def use_scores(self, scores: NDArray[np.float32]) -> None: ...
    def use_ids(self) -> None: ...
    def encode(self, text: bytes, special: bool, start: bool, guard: bytes) -> list[int]: ...
    def encode_array(self, text: bytes, special: bool, start: bool, guard: bytes) -> NDArray[np.int32]: ...
    def piece(self, token: int, /) -> bytes: ...
    def pieces(self, byte_level: bool) -> tuple[bytes, NDArray[np.uint64]]: ...
    def merges(self) -> NDArray[np.int32]: ...
    def split(self, text: bytes) -> list[bytes]: ...
    def __len__(self) -> int: ...

class Trainer:
    """What a training step does beside its products, on arrays of the caller's (any that speak DLPack)."""

    def __init__(self, threads: int, level: str = "", fork: int = 0) -> None: ...
    def norm(self, x: object, weight: object, y: object, inverse: object, eps: float, /) -> None: ...
    def norm_back(
        self, x: object, weight: object, inverse: object, dy: object, dx: object, dweight: object, /
    ) -> None: ...
    def turn(self, x: object, y: object, table: object, back: bool, /) -> None: ...
    def gate(self, gate: object, up: object, y: object, /) -> None: ...
    def gate_back(self, gate: object, up: object, dy: object, dgate: object, dup: object, /) -> None: ...
    def cross_entropy(
        self, logits: object, targets: object, weights: object | None, z_loss: float, losses: object
    ) -> None: ...
    def attend(
        self,
        q: object,
        k: object,
        v: object,
        lengths: Sequence[int],
        head_dim: int,
        out: object,
        normaliser: object,
        /,
    ) -> None: ...
    def attend_back(
        self,
        q: object,
        k: object,
        v: object,
        lengths: Sequence[int],
        head_dim: int,
        normaliser: object,
        gradient: object,
        dq: object,
        dk: object,
        dv: object,
        /,
    ) -> None: ...
