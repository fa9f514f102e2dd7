# What is measured on finished checkpoints, most of it weight geometry, and on base models.


rule measure_geometry:
    input:
        base=start_of_run,
        model=model_files("<results>/runs/{run}/model"),
        discarded=discarded_of_run,
    output:
        matrices="<results>/geometry/{run}/matrices.parquet",
        spectra="<results>/geometry/{run}/spectra.parquet",
        masks="<results>/geometry/{run}/masks.npz",
        summary="<results>/geometry/{run}/summary.json",
    log:
        "<logs>/measure_geometry/{run}.log",
    benchmark:
        "<benchmarks>/measure_geometry/{run}.tsv"
    threads: 1
    resources:
        mem_mb=memory_of_measurement,
        runtime="30m",
    params:
        code=code("pipeline.measure_geometry"),
        base=input_directory_of("base"),
        model=input_directory_of("model"),
        discarded=option_of("discarded"),
        directory=directory_of("matrices"),
        settings=lambda wildcards: CONFIG.geometry.model_dump_json(),
        seed=lambda wildcards: parse_run_name(wildcards.run)[1],
    message:
        "Measure how {wildcards.run} moved the weights of its base"
    shell:
        "python -m rlscape.pipeline.measure_geometry --base {params.base:q} --model {params.model:q}"
        " --settings {params.settings:q} --seed {params.seed} --output {params.directory:q} {params.discarded}"
        " > {log:q} 2>&1"


rule measure_over_time:
    input:
        base=start_of_run,
        snapshots="<results>/runs/{run}/snapshots",
    output:
        matrices="<results>/geometry/{run}/over_time.parquet",
        profiles="<results>/geometry/{run}/profiles.parquet",
    log:
        "<logs>/measure_over_time/{run}.log",
    benchmark:
        "<benchmarks>/measure_over_time/{run}.tsv"
    threads: 1
    resources:
        mem_mb=memory_of_measurement,
        runtime="30m",
    params:
        code=code("pipeline.measure_over_time"),
        base=input_directory_of("base"),
        directory=directory_of("matrices"),
        settings=lambda wildcards: CONFIG.geometry.model_dump_json(),
    message:
        "Measure how {wildcards.run} moved the weights of its base, evaluation by evaluation"
    shell:
        "python -m rlscape.pipeline.measure_over_time --base {params.base:q} --snapshots {input.snapshots:q}"
        " --settings {params.settings:q} --output {params.directory:q} > {log:q} 2>&1"


rule measure_operators:
    input:
        base=start_of_run,
        model=model_files("<results>/runs/{run}/model"),
    output:
        operators="<results>/geometry/{run}/operators.parquet",
        mantissa="<results>/geometry/{run}/mantissa.parquet",
    log:
        "<logs>/measure_operators/{run}.log",
    benchmark:
        "<benchmarks>/measure_operators/{run}.tsv"
    threads: 1
    resources:
        mem_mb=memory_of_measurement,
        runtime="30m",
    params:
        code=code("pipeline.measure_operators"),
        base=input_directory_of("base"),
        model=input_directory_of("model"),
        directory=directory_of("operators"),
        settings=lambda wildcards: CONFIG.geometry.model_dump_json(),
    message:
        "Measure {wildcards.run} over ranks, densities and precisions"
    shell:
        "python -m rlscape.pipeline.measure_operators --base {params.base:q} --model {params.model:q}"
        " --settings {params.settings:q} --output {params.directory:q} > {log:q} 2>&1"


rule measure_margins:
    input:
        base=start_of_run,
        model=model_files("<results>/runs/{run}/model"),
    output:
        "<results>/geometry/{run}/margins.parquet",
    log:
        "<logs>/measure_margins/{run}.log",
    benchmark:
        "<benchmarks>/measure_margins/{run}.tsv"
    threads: 1
    resources:
        mem_mb=memory_of_measurement,
        runtime="30m",
    params:
        code=code("pipeline.measure_margins"),
        base=input_directory_of("base"),
        model=input_directory_of("model"),
        settings=lambda wildcards: CONFIG.geometry.model_dump_json(),
    message:
        "Measure what rows, columns and magnitudes say of {wildcards.run}"
    shell:
        "python -m rlscape.pipeline.measure_margins --base {params.base:q} --model {params.model:q}"
        " --settings {params.settings:q} --output {output:q} > {log:q} 2>&1"


rule measure_matching:
    input:
        base=lambda wildcards: start_of_run(wildcards, matched_runs(wildcards)[0]),
        rl=lambda wildcards: trained_files(matched_runs(wildcards)[0]),
        sft=lambda wildcards: trained_files(matched_runs(wildcards)[1], snapshots=True),
        sft_at_rl_rate=lambda wildcards: trained_files(matched_runs(wildcards)[2], snapshots=True),
    output:
        "<results>/geometry/{matched}-s{seed}.parquet",
    log:
        "<logs>/measure_matching/{matched}-s{seed}.log",
    benchmark:
        "<benchmarks>/measure_matching/{matched}-s{seed}.tsv"
    wildcard_constraints:
        matched=one_of(MATCHED),
    threads: 1
    resources:
        mem_mb=memory_of_measurement,
        runtime="30m",
    params:
        code=lambda wildcards: code("pipeline.measure_matching", tasks=tasks_of("rlvr")),
        base=input_directory_of("base"),
        rl=input_directory_of("rl"),
        sft=input_directory_of("sft"),
        sft_at_rl_rate=input_directory_of("sft_at_rl_rate"),
        geometry=lambda wildcards: CONFIG.geometry.model_dump_json(),
        settings=probed_settings,
    message:
        "Compare RL and SFT at matched learning rate, norm, divergence and accuracy ({wildcards.matched}, seed"
        " {wildcards.seed})"
    shell:
        "python -m rlscape.pipeline.measure_matching --base {params.base:q} --rl {params.rl:q}"
        " --sft {params.sft:q} --sft-at-rl-rate {params.sft_at_rl_rate:q}"
        " --geometry {params.geometry:q} --settings {params.settings:q} --output {output:q} > {log:q} 2>&1"


rule measure_pairs:
    input:
        models=models_of_group,
    output:
        pairs="<results>/geometry/pairs_{group}.parquet",
        stripes="<results>/geometry/stripes_{group}.parquet",
    log:
        "<logs>/measure_pairs/{group}.log",
    benchmark:
        "<benchmarks>/measure_pairs/{group}.tsv"
    threads: 1
    resources:
        mem_mb=memory_of_measurement,
        runtime="30m",
    params:
        code=code("pipeline.measure_pairs"),
        sets=compared_sets,
        settings=lambda wildcards: CONFIG.geometry.model_dump_json(),
        seed=0,
    message:
        "Compare which weights the runs of the group {wildcards.group} changed"
    shell:
        "python -m rlscape.pipeline.measure_pairs --sets {params.sets:q} --settings {params.settings:q}"
        " --seed {params.seed} --pairs {output.pairs:q} --stripes {output.stripes:q} > {log:q} 2>&1"


rule measure_landscape:
    input:
        base=lambda wildcards: start_of_run(wildcards, first_run(CONFIG, "rlvr")),
        rl=trained_files(first_run(CONFIG, "rlvr"), snapshots=True),
        sft=trained_files(first_run(CONFIG, "sft"), snapshots=True),
    output:
        "<results>/geometry/landscape.parquet",
    log:
        "<logs>/measure_landscape.log",
    benchmark:
        "<benchmarks>/measure_landscape.tsv"
    threads: 1
    resources:
        mem_mb=memory_of_measurement,
        runtime="30m",
    params:
        code=lambda wildcards: code("pipeline.measure_landscape", tasks=tasks_of("rlvr")),
        base=input_directory_of("base"),
        rl=input_directory_of("rl"),
        sft=input_directory_of("sft"),
        settings=lambda wildcards: resolve_run(CONFIG, first_run(CONFIG, "rlvr")).model_dump_json(),
        geometry=CONFIG.geometry.model_dump_json(),
    message:
        "Measure the loss in the plane of an RL and an SFT update"
    shell:
        "python -m rlscape.pipeline.measure_landscape --base {params.base:q} --rl {params.rl:q} --sft {params.sft:q}"
        " --settings {params.settings:q} --geometry {params.geometry:q} --output {output:q} > {log:q} 2>&1"


rule measure_curvature:
    input:
        base=model_files("<results>/bases/{base}"),
        models=models_of_base,
    output:
        "<results>/geometry/curvature-{base}.parquet",
    log:
        "<logs>/measure_curvature/{base}.log",
    benchmark:
        "<benchmarks>/measure_curvature/{base}.tsv"
    threads: 1
    resources:
        mem_mb=memory_of_measurement,
        runtime="1h",
    params:
        code=code_of_curvature,
        base=input_directory_of("base"),
        models=compared_models,
        settings=settings_of_curvature,
        geometry=CONFIG.geometry.model_dump_json(),
    message:
        "Measure the curvature of the base {wildcards.base} along principal directions and along its updates"
    shell:
        "python -m rlscape.pipeline.measure_curvature --base {params.base:q} --models {params.models:q}"
        " --settings {params.settings:q} --geometry {params.geometry:q} --output {output:q} > {log:q} 2>&1"


rule measure_ratios:
    input:
        base=lambda wildcards: start_of_run(wildcards, runs_of(CONFIG, [wildcards.arm])[0]),
    output:
        "<results>/ratios/{arm}.parquet",
    log:
        "<logs>/measure_ratios/{arm}.log",
    benchmark:
        "<benchmarks>/measure_ratios/{arm}.tsv"
    threads: 1
    resources:
        mem_mb=memory_of_measurement,
        runtime="30m",
    params:
        code=lambda wildcards: code("pipeline.measure_ratios", tasks=tasks_of(wildcards.arm)),
        base=input_directory_of("base"),
        settings=lambda wildcards: resolve_run(CONFIG, runs_of(CONFIG, [wildcards.arm])[0]).model_dump_json(),
    message:
        "Measure how far generator and trainer of {wildcards.arm} disagree before its first update"
    shell:
        "python -m rlscape.pipeline.measure_ratios --base {params.base:q} --settings {params.settings:q}"
        " --output {output:q} > {log:q} 2>&1"
