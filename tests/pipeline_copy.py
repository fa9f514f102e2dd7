"""A copy of the repository, in which Snakemake runs."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

PARTS = ("Snakefile", "config", "notebooks", "profiles", "src", "workflow")


class Copy:
    """A copy of the repository with its own results."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.output = ""
        """What the first run printed."""

    @classmethod
    def of(cls, repository: Path, root: Path) -> Self:
        """A new copy in an empty folder."""
        for part in PARTS:
            source = repository / part
            if source.is_dir():
                shutil.copytree(source, root / part, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, root / part)
        return cls(root)

    def snakemake(self, *arguments: str, scale: str = "smoke") -> subprocess.CompletedProcess[str]:
        configfile = [] if scale == "default" else ["--configfile", f"config/{scale}.yaml"]
        return self.python("snakemake", *arguments, *configfile)

    def python(self, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a module of the copy."""
        return subprocess.run(
            [sys.executable, "-m", module, *arguments],
            cwd=self.root,
            env=os.environ | {"PYTHONPATH": str(self.root / "src")},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def would_run(self, target: str, *arguments: str, scale: str = "smoke") -> dict[str, int]:
        """The number of jobs of every rule that Snakemake would run."""
        finished = self.snakemake(target, "--dry-run", *arguments, scale=scale)
        assert finished.returncode == 0, finished.stdout
        if "Nothing to be done" in finished.stdout:
            return {}
        _, _, table = finished.stdout.partition("Job stats:")
        rows = [line.split() for line in table.split("\ntotal")[0].splitlines()[3:]]
        return {rule: int(count) for rule, count in rows if rule != target}

    @contextmanager
    def edited(self, path: str, old: str, new: str) -> Iterator[None]:
        """Replace text in a file; on leaving, restore it."""
        file = self.root / path
        text = file.read_text()
        assert old in text, f"{path} has no {old!r}"
        file.write_text(text.replace(old, new, 1))
        try:
            yield
        finally:
            file.write_text(text)
