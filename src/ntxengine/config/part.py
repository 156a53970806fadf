"""What the parts of a configuration have in common."""

from __future__ import annotations

from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, model_validator

Groups = tuple[tuple[str, ...], ...]


class Part(BaseModel):
    """A mapping of the file: only keys that are known, and nothing changes later.

    A key without a value is as one that is not there.  `either`: keys of which one at most is given.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, use_attribute_docstrings=True)

    either: ClassVar[Groups] = ()

    @model_validator(mode="before")
    @classmethod
    def _without_nothing(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        return {name: value for name, value in data.items() if value is not None or name not in cls.model_fields}

    def given(self, names: tuple[str, ...]) -> list[str]:
        """Return which of `names` the file has."""
        return [name for name in names if name in self.model_fields_set]

    def overlaid(self, over: Part) -> Self:
        """Return this with what `over` gives: of keys that exclude each other, that of `over` is the one.

        A mapping or a list takes the place of the other as a whole.
        """
        fields = type(self).model_fields
        taken = {name: dict(over)[name] for name in over.model_fields_set if name in fields}
        hidden = {name for group in self.either if taken.keys() & set(group) for name in group}
        kept = {name: dict(self)[name] for name in self.model_fields_set - hidden}
        return type(self).model_construct(_fields_set=set(kept) | set(taken), **{**kept, **taken})
