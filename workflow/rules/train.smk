# One job per run. A job that is killed continues from its scratch directory when it is started again.


rule train_rl:
    input:
        base=base_model_of_run,
        code=code("cli.train", leave_out=["sft"]),
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
        run=rf"({one_of(RL_ARMS)})-s\d+",
    threads: 1
    resources:
        mem_mb=2000,
        gpu=GPUS,
        runtime="4h",
    params:
        device=CONFIG.device,
        base=input_directory_of("base"),
        directory=directory_of("record"),
        settings=run_settings,
        scratch=scratch_of_run,
        claims=CLAIMS,
    message:
        "Train {wildcards.run} by reinforcement learning"
    shell:
        "python -m rlscape.cli.train --settings {params.settings:q} --base {params.base:q}"
        " --claims {params.claims:q} --scratch {params.scratch:q} --output {params.directory:q}"
        " --device {params.device} > {log:q} 2>&1"


rule train_sft:
    input:
        base=base_model_of_run,
        code=code("cli.train", leave_out=["rl.trainer"]),
    output:
        metrics="<results>/runs/{run}/metrics.parquet",
        record="<results>/runs/{run}/run.json",
        model=model_files("<results>/runs/{run}/model"),
    log:
        "<logs>/train_sft/{run}.log",
    benchmark:
        "<benchmarks>/train_sft/{run}.tsv"
    wildcard_constraints:
        run=rf"({one_of(SFT_ARMS)})-s\d+",
    threads: 1
    resources:
        mem_mb=2000,
        gpu=GPUS,
        runtime="1h",
    params:
        device=CONFIG.device,
        base=input_directory_of("base"),
        directory=directory_of("record"),
        settings=run_settings,
        scratch=scratch_of_run,
        claims=CLAIMS,
    message:
        "Train {wildcards.run} by supervised fine-tuning"
    shell:
        "python -m rlscape.cli.train --settings {params.settings:q} --base {params.base:q}"
        " --claims {params.claims:q} --scratch {params.scratch:q} --output {params.directory:q}"
        " --device {params.device} > {log:q} 2>&1"
