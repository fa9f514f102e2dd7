"""The base class of every validated settings object: frozen, and unknown keys are errors."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict

Precision = Literal["bf16", "fp32"]
HeadPrecision = Literal["m1", "m3", "m5", "bf16", "fp32"]
"""m5: values with 5 mantissa bits (bf16 has 7), and so on: coarser than any in use, to see what it would do."""
Device = Literal["cpu", "cuda"]
Optimizer = Literal["adamw", "sgd"]
MaskName = Literal[
    "dense", "principal", "complement", "low", "safe", "random", "random_half", "random_magnitude", "low_complement"
]
"""Entries of a matrix that sparse fine-tuning trains; see :mod:`rlscape.sparse`."""
AgentTask = Literal["calculator", "search", "planning"]
Task = Literal["math", "code", "calculator", "search", "planning"]

COLUMN_PREFIX: dict[Task, str] = {
    "math": "",
    "code": "code_",
    "calculator": "calculator_",
    "search": "search_",
    "planning": "planning_",
}
"""Of a task's keys in ``evaluation.json``, and of its columns in ``metrics.parquet``; there, the columns of a run's
first task have no prefix."""


class Settings(BaseModel):
    """Immutable settings; a key that the class does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def changed(self, **changes: object) -> Self:
        """A validated copy with the named fields replaced.

        Raises:
            pydantic.ValidationError: a field is unknown or its value is invalid.
        """
        return type(self).model_validate(self.model_dump() | changes)
