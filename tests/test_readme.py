"""What the README says about results is what is recorded in the gallery."""

import re
from pathlib import Path

import pandas as pd

VERDICTS = "replicated|not replicated|inconclusive|not testable at this scale"
ROW = re.compile(rf"^\| ([SO]\d+) \| [^|]* \| ({VERDICTS}) \|", re.M)
BESIDE = re.compile(rf"^\| ([SO]\d+) \| [^|]* \| ({VERDICTS}) \| ({VERDICTS}) \|", re.M)
"""Of the claims that a pretrained model was asked too, in a table of their own before that of all: by models from
scratch, and by that one."""


def test_the_python_example_names_what_there_is(repository: Path) -> None:
    examples = re.findall(r"```python\n(from .*?)```", (repository / "README.md").read_text(), re.S)
    assert len(examples) == 1
    imports = [line for line in examples[0].splitlines() if line.startswith("from ")]
    used = [line.split(" import ")[1].split(", ") for line in imports]
    exec("\n".join(imports), {})
    body = examples[0].rpartition(imports[-1])[2]
    assert all(name in body for names in used for name in names)


def recorded(repository: Path, scale: str, table: str) -> pd.DataFrame:
    return pd.read_csv(repository / "figures" / "gallery" / scale / table).set_index("id")


def test_the_tables_of_claims_have_the_recorded_verdicts(repository: Path) -> None:
    text = (repository / "README.md").read_text()
    default, pretrained = (recorded(repository, scale, "claims.csv")["verdict"] for scale in ("default", "pretrained"))
    asked = pretrained.index.intersection(recorded(repository, "pretrained", "power.csv").index)
    assert BESIDE.findall(text) == [(claim, default[claim], pretrained[claim]) for claim in asked]
    assert ROW.findall(text)[len(asked) :] == list(default.items())
