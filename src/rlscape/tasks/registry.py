"""The tasks by name, and what a settings file may say of them."""

from collections.abc import Mapping
from typing import Annotated, Any, LiteralString

from pydantic import BeforeValidator, SerializeAsAny, StringConstraints, ValidationError
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from rlscape.tasks import calculator, code, gym, math, planning, programs, search, sums
from rlscape.tasks.base import Task, TaskSettings

TASKS: Mapping[str, Task] = {
    "math": math.TASK,
    "code": code.TASK,
    "calculator": calculator.TASK,
    "search": search.TASK,
    "planning": planning.TASK,
    "sums": sums.TASK,
    "programs": programs.TASK,
    "gym": gym.TASK,
}
"""By module. Settings may name a task otherwise, and its module as the ``source``."""

UNKNOWN: LiteralString = f"no such task; there are {', '.join(TASKS)}"  # type: ignore[assignment]
UNNAMED: LiteralString = f"{UNKNOWN}; a name of your own needs one of them as its source"  # type: ignore[assignment]


def _of_each_task(tables: Any) -> Any:
    """Each table as its task reads it; what is wrong in any of them is reported with the others."""
    if not isinstance(tables, Mapping):
        return tables  # pydantic says what it should be
    settings: dict[str, TaskSettings] = {}
    errors: list[InitErrorDetails] = []
    for name, table in tables.items():
        table = table.model_dump() if isinstance(table, TaskSettings) else table
        source = (isinstance(table, Mapping) and table.get("source")) or name
        if source not in list(TASKS):
            unknown = PydanticCustomError("unknown_task", UNNAMED if source == name else UNKNOWN)
            location = (name,) if source == name else (name, "source")
            errors.append(InitErrorDetails(type=unknown, loc=location, input=source))
            continue
        if source == name and isinstance(table, Mapping):
            table = {key: value for key, value in table.items() if key != "source"}
        try:
            settings[name] = TASKS[source].settings.model_validate(table)
        except ValidationError as error:
            errors += [_in_table(name, problem, TASKS[source].settings) for problem in error.errors()]
    if errors:
        raise ValidationError.from_exception_data("tasks", errors)
    return settings


def _in_table(name: str, problem: ErrorDetails, settings: type[TaskSettings]) -> InitErrorDetails:
    """An error in the table of a task; an unknown key says which ones there are."""
    details = InitErrorDetails(type=problem["type"], loc=(name, *problem["loc"]), input=problem["input"])
    if problem["type"] == "extra_forbidden":
        known = {"known": list(settings.model_fields)}
        return details | {"type": PydanticCustomError("extra_forbidden", "no such key", known)}
    return details | ({"ctx": problem["ctx"]} if "ctx" in problem else {})


TaskName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")]
"""As it stands in columns and in names of files."""
Tasks = Annotated[dict[TaskName, SerializeAsAny[TaskSettings]], BeforeValidator(_of_each_task)]
"""Task -> its settings, each of its own kind."""
