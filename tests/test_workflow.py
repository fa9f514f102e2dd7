"""The pipeline at the smoke scale, end to end, and what an edit, a touch or a setting reruns.

The pipeline runs once, in a copy of the repository; the tests then edit the copy and ask Snakemake what it
would do. Every test leaves the copy as it found it.
"""

import csv
import shutil
from pathlib import Path
from typing import get_args

import pytest

from rlscape.catalogue import ARMS, FIGURES, load_scale, runs_of, tasks_of
from rlscape.catalogue.arms import Arm
from rlscape.machine import memory_mb
from rlscape.settings.scale import Paper
from tests.pipeline_copy import Copy

FITS = {"fit_curve", "summarise_fits"}
PLOTS = {"plot_figure", "evaluate_claims", "plot_scoreboard", "execute_notebook"}
TRL = {"train_with_trl", "train_with_trl_keeping_snapshots"}
RL = {"train_rl", "train_rl_keeping_snapshots"}
TRAINING = {"pretrain_base", "evaluate_base", *RL, *TRL}


@pytest.fixture(scope="session")
def copy(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Copy:
    """The repository after `snakemake all` at the smoke scale."""
    copied = Copy.of(repository, tmp_path_factory.mktemp("rlscape"))
    finished = copied.snakemake("all", "--cores", "2")
    assert finished.returncode == 0, finished.stdout
    copied.output = finished.stdout
    return copied


def test_every_figure_table_and_notebook_is_made(copy: Copy) -> None:
    for figure in FIGURES:
        stem = copy.root / "figures" / "smoke" / figure.paper / figure.stem
        for suffix in (".svg", ".png", ".csv"):
            assert stem.with_suffix(suffix).stat().st_size > 100, stem
    assert (copy.root / "figures" / "smoke" / "scoreboard.svg").exists()
    results = copy.root / "results" / "smoke"
    for notebook in (copy.root / "notebooks").glob("*.ipynb"):
        assert (results / "notebooks" / notebook.name).exists()
    with (results / "claims.csv").open(newline="") as file:
        verdicts = {row["verdict"] for row in csv.DictReader(file)}
    assert verdicts and verdicts <= {
        "replicated",
        "not replicated",
        "inconclusive",
        "not testable at this scale",
    }


def test_smoke_runs_its_own_arms_and_seeds_only(copy: Copy) -> None:
    runs = {path.name for path in (copy.root / "results" / "smoke" / "runs").iterdir()}
    config = load_scale(copy.root / "config" / "smoke.yaml")
    assert runs == set(runs_of(config, config.seeds))
    assert not (copy.root / "results" / "default").exists()


def test_finished_runs_leave_no_state_behind(copy: Copy) -> None:
    scratch = copy.root / "results" / "smoke" / "scratch"
    assert not [file for suffix in ("pt", "safetensors") for file in scratch.rglob(f"*.{suffix}")]


def test_second_run_does_nothing(copy: Copy) -> None:
    assert copy.would_run("all") == {}


def test_touching_every_file_reruns_nothing(copy: Copy) -> None:
    for folder in ("src", "config", "notebooks", "workflow"):
        for file in (copy.root / folder).rglob("*.*"):
            file.touch()
    assert copy.would_run("all") == {}


def test_editing_scaling_reruns_only_fits_and_what_follows(copy: Copy) -> None:
    with copy.edited("src/rlscape/scaling/sigmoid.py", "\n", "\n# edited\n"):
        jobs = copy.would_run("all")
    config = load_scale(copy.root / "config" / "smoke.yaml")
    arms = [arm for arm in config.seeds if ARMS[arm].paper == "scalerl"]
    assert jobs["fit_curve"] == len(runs_of(config, arms)) + len(
        runs_of(config, [arm for arm in arms if "code" in tasks_of(arm)])
    )
    assert set(jobs) <= FITS | PLOTS
    assert {"evaluate_claims", "plot_scoreboard"} <= set(jobs)


def test_editing_a_figure_reruns_that_figure_and_the_notebooks_that_may_show_it(copy: Copy) -> None:
    with copy.edited("src/rlscape/figures/scalerl/fig05.py", "\n", "\n# edited\n"):
        assert copy.would_run("all") == {"plot_figure": 1, "execute_notebook": 2}


def test_editing_supervised_fine_tuning_trains_only_what_follows_from_it(copy: Copy) -> None:
    with copy.edited("src/rlscape/training/sft.py", "\n", "\n# edited\n"):
        jobs = copy.would_run("all")
    config = load_scale(copy.root / "config" / "smoke.yaml")
    sft, after = ([arm for arm in config.seeds if of(ARMS[arm])] for of in (is_sft, starts_from_sft))
    assert sum(jobs[rule] for rule in TRL) == len(runs_of(config, sft))
    assert jobs["train_rl"] == len(runs_of(config, after))
    assert not {"train_rl_keeping_snapshots", "pretrain_base", "fit_curve"} & set(jobs)


def is_sft(arm: Arm) -> bool:
    return arm.method == "sft"


def starts_from_sft(arm: Arm) -> bool:
    return arm.start is not None


def test_editing_a_loss_trains_rl_and_no_base(copy: Copy) -> None:
    with copy.edited("src/rlscape/rl/losses.py", "\n", "\n# edited\n"):
        jobs = copy.would_run("all")
    assert "train_rl" in jobs
    assert not {*TRL, "pretrain_base", "evaluate_base"} & set(jobs)


def test_another_bootstrap_reruns_only_fits_and_what_follows(copy: Copy) -> None:
    with copy.edited("config/smoke.yaml", "bootstrap_draws: 20", "bootstrap_draws: 21"):
        jobs = copy.would_run("all")
    assert "fit_curve" in jobs and not TRAINING & set(jobs) and "measure_geometry" not in jobs


def test_one_more_seed_trains_one_more_run(copy: Copy) -> None:
    with copy.edited("config/smoke.yaml", "others: 1", "others: 1\n  gspo_5: 2"):
        jobs = copy.would_run("all")
    assert jobs["train_rl"] == jobs["fit_curve"] == 1
    assert not {"pretrain_base", "evaluate_base", *TRL, "measure_geometry"} & set(jobs)


def test_restored_results_train_only_what_the_scale_has_gained(copy: Copy, repository: Path, tmp_path: Path) -> None:
    def gallery(place: Copy, *arguments: str) -> None:
        done = place.python("rlscape.pipeline.gallery", "--gallery", str(tmp_path / "gallery"), *arguments)
        assert done.returncode == 0, done.stdout

    for paper in get_args(Paper):
        gallery(copy, "record", "--config", "config/smoke.yaml", "--paper", paper)
    (tmp_path / "fresh" / "results" / "smoke").mkdir(parents=True)
    fresh = Copy.of(repository, tmp_path / "fresh")
    assert set(fresh.would_run("starts")) == {"pretrain_base", "intervene_base"}
    shutil.copytree(copy.root / "results" / "smoke" / "bases", fresh.root / "results" / "smoke" / "bases")
    gallery(fresh, "restore", "--config", "config/smoke.yaml")
    assert not fresh.would_run("all").keys() - FITS - PLOTS
    with fresh.edited("config/smoke.yaml", "others: 1", "others: 1\n  gspo_5: 2\n  dpo: 2"):
        jobs = fresh.would_run("all")
    assert jobs["train_rl"] == jobs["train_with_trl"] == jobs["measure_geometry"] == jobs["fit_curve"] == 1
    assert set(jobs) <= {"train_rl", "train_with_trl", "measure_geometry"} | FITS | PLOTS


def test_changing_one_arm_trains_its_runs_only(copy: Copy) -> None:
    with copy.edited("src/rlscape/catalogue/scalerl.py", "clip_high=5e-3)", "clip_high=6e-3)"):
        jobs = copy.would_run("all")
    assert jobs["train_rl"] == 1
    assert not {"pretrain_base", "evaluate_base", *TRL} & set(jobs)


def test_editing_when_runs_are_evaluated_trains_them_again(copy: Copy) -> None:
    with copy.edited(
        "src/rlscape/rl/evaluate.py", "index * total / settings.evaluations", "index * total // settings.evaluations"
    ):
        jobs = copy.would_run("all")
    config = load_scale(copy.root / "config" / "smoke.yaml")
    assert sum(jobs[rule] for rule in RL | TRL) == len(runs_of(config, config.seeds))


def test_editing_the_names_of_columns_trains_again(copy: Copy) -> None:
    with copy.edited("src/rlscape/tasks/base.py", 'f"{task}_"', 'f"{task}-"'):
        assert {*RL, *TRL, "evaluate_base", "fit_curve"} <= set(copy.would_run("all"))


def test_editing_a_task_trains_what_has_it_and_nothing_else(copy: Copy) -> None:
    with copy.edited("src/rlscape/tasks/search.py", "\n", "\n# edited\n"):
        jobs = copy.would_run("all")
    assert jobs["pretrain_base"] == jobs["evaluate_base"] == 1
    assert jobs["train_rl"] == len([arm for arm in ARMS if ARMS[arm].base == "agents"])
    assert not {*TRL, "fit_curve"} & set(jobs)


def test_adding_an_arm_makes_what_shows_it_and_nothing_else(copy: Copy) -> None:
    arm = '    "rlvr_cispo": rl("RLVR, CISPO", "rlvr", loss="cispo"),\n'
    with copy.edited(
        "src/rlscape/catalogue/off_principals.py", '    "dpo": dpo("DPO"),\n', f'{arm}    "dpo": dpo("DPO"),\n'
    ):
        jobs = copy.would_run("all")
    assert jobs.pop("train_rl") == jobs.pop("measure_geometry") == 1
    assert set(jobs) <= {"evaluate_claims", "plot_scoreboard", "execute_notebook"}


def test_another_arm_in_a_figure_draws_it_and_judges_again(copy: Copy) -> None:
    with copy.edited(
        "src/rlscape/catalogue/scalerl.py", '"fig16", arms=("scalerl",', '"fig16", arms=("scalerl", "moe",'
    ):
        jobs = copy.would_run("all")
    assert jobs == {"plot_figure": 1, "evaluate_claims": 1, "plot_scoreboard": 1, "execute_notebook": 2}


def test_jobs_that_run_together_ask_for_no_more_memory_than_there_is(copy: Copy) -> None:
    assert f'Resource("mem_mb", {memory_mb()})' in copy.output
    forced = ("scalerl_fig13", "--cores", "1", "--forcerun", "plot_figure")
    finished = copy.snakemake(*forced, "--resources", "mem_mb=1500")
    assert finished.returncode == 0, finished.stdout
    assert 'Resource("mem_mb", 1500)' in finished.stdout


def test_editing_the_claims_trains_nothing(copy: Copy) -> None:
    with copy.edited("config/claims.yaml", "\n", "\n# edited\n"):
        assert set(copy.would_run("all")) <= PLOTS


def test_one_figure_builds_only_what_it_needs(copy: Copy, tmp_path: Path) -> None:
    elsewhere = ("--config", f"results={tmp_path / 'results'}", f"figures={tmp_path / 'figures'}")
    jobs = copy.would_run("scalerl_fig5", *elsewhere)
    assert jobs == {
        "pretrain_base": 1,
        "evaluate_base": 1,
        "train_rl": 4,
        "fit_curve": 4,
        "plot_figure": 1,
    }
    assert set(copy.would_run("off_principals_fig4", *elsewhere)) == {
        "pretrain_base",
        "evaluate_base",
        "snap_start",
        "train_rl",
        "train_with_trl_keeping_snapshots",
        "measure_geometry",
        "plot_figure",
    }
    assert copy.would_run("scalerl_fig13", *elsewhere) == {"plot_figure": 1}


def test_the_default_scale_stands_alone(copy: Copy) -> None:
    config = load_scale(copy.root / "config" / "config.yaml")
    jobs = copy.would_run("all", scale="default")
    assert sum(jobs[rule] for rule in RL | TRL) == len(runs_of(config, config.seeds))


def test_pilots_train_what_they_choose_among_and_fit_what_they_forecast(copy: Copy) -> None:
    config = load_scale(copy.root / "config" / "pilots.yaml")
    jobs = copy.would_run("pilots", scale="pilots")
    assert sum(jobs.pop(rule) for rule in RL | TRL if rule in jobs) == len(runs_of(config, config.seeds))
    forecast = len(runs_of(config, ["random_rewards", "scalerl"]))
    others = {"pretrain_base": 3, "evaluate_base": 1, "choose_pilots": 1, "plot_pilots": 1}
    assert jobs == others | {"fit_curve": forecast}


def test_an_unknown_key_is_one_clear_error(copy: Copy) -> None:
    with copy.edited("config/smoke.yaml", "pool_size", "pol_size"):
        finished = copy.snakemake("all", "--dry-run")
    assert finished.returncode != 0
    assert "config/smoke.yaml: tasks.math.pol_size: unknown key; did you mean 'pool_size'?" in finished.stdout
    assert "Traceback" not in finished.stdout


def test_a_scale_without_a_name_is_not_filled_up_from_the_default(copy: Copy) -> None:
    with copy.edited("config/smoke.yaml", "scale: smoke", ""):
        finished = copy.snakemake("all", "--dry-run")
    assert finished.returncode != 0
    assert "config/smoke.yaml: scale: missing" in finished.stdout


def test_the_report_holds_every_figure_with_its_claims(copy: Copy) -> None:
    finished = copy.snakemake("all", "--report", "report.html")
    assert finished.returncode == 0, finished.stdout
    report = (copy.root / "report.html").read_text()
    assert "Criterion: " in report and "fig05.svg" in report
    assert "(ERROR" not in finished.stdout
