"""The base class of every validated settings object: frozen, and unknown keys are errors."""

from typing import Self

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """Immutable settings; a key that the class does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def changed(self, **changes: object) -> Self:
        """A validated copy with the named fields replaced.

        Raises:
            pydantic.ValidationError: a field is unknown or its value is invalid.
        """
        return type(self).model_validate(self.model_dump() | changes)
