"""Every error that Bothways raises on purpose.

    BothwaysError
    ├── ModelNotFound      a model name leads to no checkpoint folder
    ├── CheckpointError    a checkpoint's files are missing, damaged or contradict each other
    ├── UnsupportedModel   a sound checkpoint of a network that Bothways does not compute
    ├── TaskError          a task asked of a checkpoint that has no head for it
    ├── InputError         a text, an option or an input file that can't be used as given
    │   └── InputTooLong   a text has more tokens than are allowed, and is not to be cut
    ├── DeviceError        a device, engine, level or dtype that this machine can't provide
    ├── OutOfMemory        a sequence, or the checkpoint itself, does not fit in memory
    └── ServerError        a server answered with an error, or not at all

Each message says what was given, what is allowed, and what to do.
"""

__all__ = [
    "BothwaysError",
    "CheckpointError",
    "DeviceError",
    "InputError",
    "InputTooLong",
    "ModelNotFound",
    "OutOfMemory",
    "ServerError",
    "TaskError",
    "UnsupportedModel",
]


class BothwaysError(Exception):
    """The parent of every error that Bothways raises on purpose."""


class ModelNotFound(BothwaysError):
    """A model name leads to no checkpoint folder."""


class CheckpointError(BothwaysError):
    """A checkpoint's files are missing, damaged or contradict each other."""


class UnsupportedModel(BothwaysError):
    """A sound checkpoint of a network that Bothways does not compute."""


class TaskError(BothwaysError):
    """A task asked of a checkpoint that has no head for it."""


class InputError(BothwaysError):
    """A text, an option or an input file that can't be used as given."""


class InputTooLong(InputError):
    """A text has more tokens than are allowed, and is not to be cut: what is wrong, and what to do."""

    def __str__(self) -> str:
        """Both, as other errors have it."""
        return "; ".join(map(str, self.args))


class DeviceError(BothwaysError):
    """A device, engine, level or dtype that this machine can't provide."""


class OutOfMemory(BothwaysError):
    """A sequence, or the checkpoint itself, does not fit in memory."""


class ServerError(BothwaysError):
    """A server answered with an error, or not at all."""
