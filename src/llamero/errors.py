"""Every exception llamero raises on purpose.

    LlameroError
    ├── FormatError        (ValueError)          a file's bytes break the rules of its format
    │   └── UnsupportedError                     a well-formed file asks for something we do not have
    ├── WeightsError       (ValueError)          tensors are missing, of the wrong shape, or not finite
    ├── ConfigError        (ValueError)          a model's settings are unknown, absurd or contradictory
    ├── SettingError       (ValueError)          a caller's option is unknown or out of range
    ├── TokenizerError     (ValueError)          a vocabulary is broken, or a text cannot be encoded
    ├── TemplateError      (ValueError)          a chat template is unsafe, broken, or refuses the messages
    ├── ConstraintError    (ValueError)          an answer cannot go on in the form that was asked for
    ├── ContextOverflow    (ValueError)          the tokens do not fit the context; carries both counts
    ├── ModelNotFound      (FileNotFoundError)   no such file, folder or pulled name
    ├── StorageError       (OSError)             something could not be written: a full disk, a folder not shared
    ├── QueueFull          (RuntimeError)        so many requests wait already that another is refused; try later
    ├── LoadError          (RuntimeError)        a server's model cannot be loaded
    └── DeviceError        (RuntimeError)        the asked-for device or instruction set is not here

A message says what is wrong, where (file, key, tensor, byte), and what to do.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class LlameroError(Exception):
    """The base of all errors below; catch it to catch everything llamero refuses."""


class FormatError(LlameroError, ValueError):
    """A file's bytes break the rules of its format."""


class UnsupportedError(FormatError):
    """A well-formed file names an architecture, type or feature that llamero does not run."""


class WeightsError(LlameroError, ValueError):
    """Tensors are missing, have the wrong shape, or hold values that are not finite."""


class ConfigError(LlameroError, ValueError):
    """A model's settings are unknown, absurd or contradict each other."""


class SettingError(LlameroError, ValueError):
    """A caller's option is unknown or out of range."""


class TokenizerError(LlameroError, ValueError):
    """A vocabulary is broken, or a text cannot be encoded with it."""


class TemplateError(LlameroError, ValueError):
    """A chat template is unsafe, broken, runs too long, or refuses the messages."""


class ConstraintError(LlameroError, ValueError):
    """An answer cannot go on in the form (a grammar, a schema) that was asked for."""


class ContextOverflow(LlameroError, ValueError):
    """The tokens do not fit the context.

    Attributes: `tokens`, how many there are; `context`, how many fit.
    """

    def __init__(self, message: str, *, tokens: int, context: int) -> None:
        super().__init__(message)
        self.tokens = tokens
        self.context = context


class ModelNotFound(LlameroError, FileNotFoundError):
    """No file, folder or pulled model of that name."""


class StorageError(LlameroError, OSError):
    """Something could not be written; what was there before is untouched."""


class QueueFull(LlameroError, RuntimeError):
    """So many requests wait already that another is refused; it may be tried again later."""


class LoadError(LlameroError, RuntimeError):
    """A server's model cannot be loaded; its operator has to look."""


class DeviceError(LlameroError, RuntimeError):
    """The asked-for device or instruction set is not on this machine."""


def nearest(name: str, valid: Iterable[str]) -> str:
    """The end of an error message: the valid name closest to `name`, or all of them."""
    names = sorted(valid)
    close = get_close_matches(name, names, n=1)
    return f"did you mean {close[0]!r}?" if close else f"choose from {', '.join(names)}"
