# Which models the rules of measure.smk read side by side.


def sets_of_group(group):
    """Sets of runs whose updates are compared with each other."""
    arms = measured_arms(CONFIG, f"pairs_{group}")
    # Data differ between the arms of the footprint; other arms' seeds draw other batches and samples of the same data.
    if group == "footprint":
        return [[run_name(arm, seed) for arm in arms] for seed in seeds_of(CONFIG, *arms)]
    if group == "shared":  # every arm with itself and with every other, at two seeds of each
        return [[run for arm in arms for run in runs_of(CONFIG, [arm])[:2]]]
    return [runs_of(CONFIG, arms)]


def models_of_group(wildcards):
    files = []
    for run in chain.from_iterable(sets_of_group(wildcards.group)):
        settings = resolve_run(CONFIG, run)
        files += model_files(f"<results>/bases/{settings.base_name}")
        files += model_files(f"<results>/runs/{run}/model")
        if settings.intervention:
            changed = f"<results>/{start_of(CONFIG, run)}"
            files += [*model_files(changed), f"{changed}/intervention.json"]
    return list(dict.fromkeys(files))


def compared_sets(wildcards):
    return json.dumps([[compared_run(run) for run in runs] for runs in sets_of_group(wildcards.group)])


def compared_run(run):
    settings = resolve_run(CONFIG, run)
    root = results_dir(CONFIG)
    paths = {"base": root / start_of(CONFIG, run), "model": root / "runs" / run / "model"}
    if settings.intervention:
        paths["original"] = root / "bases" / settings.base_name
    return {"run": run} | {name: str(path) for name, path in paths.items()}


def models_of_base(wildcards):
    return [
        file for run in CURVED[wildcards.base].values() for file in model_files(f"<results>/runs/{run}/model")
    ]


def compared_models(wildcards):
    root = results_dir(CONFIG)
    return json.dumps(
        {method: str(root / "runs" / run / "model") for method, run in CURVED[wildcards.base].items()}
    )


def settings_of_curvature(wildcards):
    """Of a run from the base: its problems are where the policy is differentiated."""
    return resolve_run(CONFIG, CURVED[wildcards.base]["rl"]).model_dump_json()


def code_of_curvature(wildcards):
    arm, _ = parse_run_name(CURVED[wildcards.base]["rl"])
    return code("pipeline.measure_curvature", tasks=tasks_of(arm))


def matched_runs(wildcards):
    """RL, SFT at its own rate and SFT at RL's rate."""
    return [run_name(arm, wildcards.seed) for arm in MATCHED[wildcards.matched]]


def probed_settings(wildcards):
    """Of the RL run, with the probes of the study also where its divergence is not tracked in training."""
    settings = resolve_run(CONFIG, matched_runs(wildcards)[0])
    return settings.changed(drift_prompts=CONFIG.off_principals.drift_prompts).model_dump_json()
