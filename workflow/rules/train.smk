# One job per run. A job that is killed continues from its scratch directory when it is started again.


rule train_rl:
    input:
        start=start_of_run,
        teacher=teacher_of_run,
    output:
        metrics="<results>/runs/{run}/metrics.parquet",
        updates="<results>/runs/{run}/updates.parquet",
        record="<results>/runs/{run}/run.json",
        model=model_files("<results>/runs/{run}/model"),
    log:
        "<logs>/train_rl/{run}.log",
    benchmark:
        "<benchmarks>/train_rl/{run}.tsv"
    wildcard_constraints:
        run=runs_pattern(["rl"], snapshots=False),
    threads: 1
    resources:
        mem_mb=memory_of_run,
        gpu=GPUS,
        runtime="12h",
    params:
        code=code_of_training,
        device=CONFIG.device,
        base=input_directory_of("start"),
        teacher=option_of("teacher"),
        directory=directory_of("record"),
        settings=run_settings,
        scratch=scratch_of_run,
        claims=CLAIMS,
    message:
        "Train {wildcards.run} by reinforcement learning"
    shell:
        "python -m rlscape.pipeline.train --settings {params.settings:q} --base {params.base:q}"
        " --claims {params.claims:q} --scratch {params.scratch:q} --output {params.directory:q}"
        " --device {params.device} {params.teacher} > {log:q} 2>&1"


use rule train_rl as train_rl_keeping_snapshots with:
    output:
        metrics="<results>/runs/{run}/metrics.parquet",
        updates="<results>/runs/{run}/updates.parquet",
        record="<results>/runs/{run}/run.json",
        snapshots=directory("<results>/runs/{run}/snapshots"),
        model=model_files("<results>/runs/{run}/model"),
    wildcard_constraints:
        run=runs_pattern(["rl"], snapshots=True),


use rule train_rl as train_with_trl with:
    log:
        "<logs>/train_with_trl/{run}.log",
    benchmark:
        "<benchmarks>/train_with_trl/{run}.tsv"
    wildcard_constraints:
        run=runs_pattern(["sft", "dpo", "simpo"], snapshots=False),
    message:
        "Train {wildcards.run} by trl"


use rule train_with_trl as train_with_trl_keeping_snapshots with:
    output:
        metrics="<results>/runs/{run}/metrics.parquet",
        updates="<results>/runs/{run}/updates.parquet",
        record="<results>/runs/{run}/run.json",
        snapshots=directory("<results>/runs/{run}/snapshots"),
        model=model_files("<results>/runs/{run}/model"),
    wildcard_constraints:
        run=runs_pattern(["sft", "dpo", "simpo"], snapshots=True),


rule snap_start:
    input:
        model=model_files("<results>/runs/{run}/model"),
    output:
        config="<results>/starts/{run}/config.json",
        model="<results>/starts/{run}/model.safetensors",
    log:
        "<logs>/snap_start/{run}.log",
    benchmark:
        "<benchmarks>/snap_start/{run}.tsv"
    threads: 1
    resources:
        mem_mb=memory_of_run,
        runtime="10m",
    params:
        code=code("pipeline.snap_start"),
        trained=input_directory_of("model"),
        directory=directory_of("config"),
    message:
        "Round {wildcards.run} to bf16, as the start of other runs"
    shell:
        "python -m rlscape.pipeline.snap_start --model {params.trained:q} --output {params.directory:q} > {log:q} 2>&1"
