"""The tasks by name, and what a settings file may say of them."""

from collections.abc import Mapping
from typing import Annotated, Any, LiteralString

from pydantic import AfterValidator, BeforeValidator, SerializeAsAny, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from rlscape.tasks import calculator, code, math, planning, search
from rlscape.tasks.base import Task, TaskSettings

TASKS: Mapping[str, Task] = {
    "math": math.TASK,
    "code": code.TASK,
    "calculator": calculator.TASK,
    "search": search.TASK,
    "planning": planning.TASK,
}
"""A task's name is that of its module."""


UNKNOWN: LiteralString = f"no such task; there are {', '.join(TASKS)}"  # type: ignore[assignment]


def _registered(name: str) -> str:
    if name not in TASKS:
        raise PydanticCustomError("unknown_task", UNKNOWN)
    return name


def _of_each_task(tables: Any) -> Any:
    """Each table as its task reads it; what is wrong in any of them is reported with the others."""
    if not isinstance(tables, Mapping):
        return tables  # pydantic says what it should be
    settings: dict[str, TaskSettings] = {}
    errors: list[InitErrorDetails] = []
    for name, table in tables.items():
        if name not in TASKS:
            unknown = PydanticCustomError("unknown_task", UNKNOWN)
            errors.append(InitErrorDetails(type=unknown, loc=(name,), input=name))
            continue
        try:
            settings[name] = TASKS[name].settings.model_validate(
                table.model_dump() if isinstance(table, TaskSettings) else table
            )
        except ValidationError as error:
            for problem in error.errors():
                details = InitErrorDetails(type=problem["type"], loc=(name, *problem["loc"]), input=problem["input"])
                errors.append(details | ({"ctx": problem["ctx"]} if "ctx" in problem else {}))
    if errors:
        raise ValidationError.from_exception_data("tasks", errors)
    return settings


TaskName = Annotated[str, AfterValidator(_registered)]
Tasks = Annotated[dict[str, SerializeAsAny[TaskSettings]], BeforeValidator(_of_each_task)]
"""Task -> its settings, each of its own kind."""
