# Base models, one per architecture, shared by all runs and seeds.


rule pretrain_base:
    output:
        model=model_files("<results>/bases/{base}"),
        record="<results>/bases/{base}/base.json",
    log:
        "<logs>/pretrain_base/{base}.log",
    benchmark:
        "<benchmarks>/pretrain_base/{base}.tsv"
    wildcard_constraints:
        base=one_of(SCRATCH),
    threads: 1
    resources:
        mem_mb=2000,
        gpu=GPUS,
        runtime="60m",
    params:
        code=code_of_base("pipeline.pretrain_base"),
        device=CONFIG.device,
        directory=directory_of("record"),
        settings=lambda wildcards: CONFIG.bases[wildcards.base].model_dump_json(),
        tasks=task_settings,
    message:
        "Pretrain the base model {wildcards.base}"
    shell:
        "python -m rlscape.pipeline.pretrain_base --name {wildcards.base} --settings {params.settings:q}"
        " --tasks {params.tasks:q} --output {params.directory:q}"
        " --device {params.device} > {log:q} 2>&1"


rule start_base:
    input:
        checkpoint=lambda wildcards: checkpoint_files(CHECKPOINTS[wildcards.base]),
    output:
        model=model_files("<results>/bases/{base}"),
        discarded="<results>/bases/{base}/discarded/model.safetensors",
        record="<results>/bases/{base}/base.json",
    log:
        "<logs>/start_base/{base}.log",
    benchmark:
        "<benchmarks>/start_base/{base}.tsv"
    wildcard_constraints:
        base=one_of(CHECKPOINTS),
    threads: 1
    resources:
        mem_mb=memory_of_base,
        gpu=GPUS,
        runtime="60m",
    params:
        code=code_of_base("pipeline.start_base"),
        device=CONFIG.device,
        checkpoint=input_directory_of("checkpoint"),
        directory=directory_of("record"),
        settings=lambda wildcards: CONFIG.bases[wildcards.base].model_dump_json(),
        tasks=task_settings,
        rl=lambda wildcards: study_of_base(wildcards).rl.model_dump_json(),
        evaluation=lambda wildcards: study_of_base(wildcards).evaluation.model_dump_json(),
    message:
        "Make the base {wildcards.base} of its checkpoint"
    shell:
        "python -m rlscape.pipeline.start_base --name {wildcards.base} --settings {params.settings:q}"
        " --checkpoint {params.checkpoint:q} --tasks {params.tasks:q} --rl {params.rl:q}"
        " --evaluation {params.evaluation:q} --output {params.directory:q}"
        " --device {params.device} > {log:q} 2>&1"


rule evaluate_base:
    input:
        model=model_files("<results>/bases/{base}"),
    output:
        "<results>/bases/{base}/evaluation.json",
    log:
        "<logs>/evaluate_base/{base}.log",
    benchmark:
        "<benchmarks>/evaluate_base/{base}.tsv"
    wildcard_constraints:
        base=one_of([*SCRATCH, *CHECKPOINTS]),
    threads: 1
    resources:
        mem_mb=memory_of_base,
        gpu=GPUS,
        runtime="30m",
    params:
        code=code_of_base("pipeline.evaluate_base"),
        device=CONFIG.device,
        directory=input_directory_of("model"),
        settings=lambda wildcards: CONFIG.bases[wildcards.base].model_dump_json(),
        tasks=task_settings,
        rl=lambda wildcards: study_of_base(wildcards).rl.model_dump_json(),
        evaluation=lambda wildcards: study_of_base(wildcards).evaluation.model_dump_json(),
    message:
        "Evaluate the base model {wildcards.base}"
    shell:
        "python -m rlscape.pipeline.evaluate_base --base {params.directory:q} --settings {params.settings:q}"
        " --tasks {params.tasks:q} --rl {params.rl:q} --evaluation {params.evaluation:q} --output {output:q}"
        " --device {params.device} > {log:q} 2>&1"


rule intervene_base:
    input:
        model=model_files("<results>/bases/{base}"),
    output:
        model=model_files("<results>/bases/{base}_{intervention}"),
        record="<results>/bases/{base}_{intervention}/intervention.json",
    log:
        "<logs>/intervene_base/{base}_{intervention}.log",
    benchmark:
        "<benchmarks>/intervene_base/{base}_{intervention}.tsv"
    wildcard_constraints:
        base=one_of([*SCRATCH, *CHECKPOINTS]),
        intervention=one_of(INTERVENTIONS),
    threads: 1
    resources:
        mem_mb=memory_of_base,
        runtime="10m",
    params:
        code=code("pipeline.intervene_base"),
        base=input_directory_of("model"),
        directory=directory_of("record"),
        settings=lambda wildcards: INTERVENTIONS[wildcards.intervention].model_dump_json(),
    message:
        "Change {wildcards.base} so that it computes the same ({wildcards.intervention})"
    shell:
        "python -m rlscape.pipeline.intervene_base --base {params.base:q} --settings {params.settings:q}"
        " --output {params.directory:q} > {log:q} 2>&1"


rule starts:
    input:
        starts_of_scale,
