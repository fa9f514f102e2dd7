"""A tiny base that solves some easy problems: what training on a model's own samples needs."""

from rlscape.models.build import build_model, save_model
from rlscape.training.sft import train_sft


def make_solver(settings, directory):
    """A base trained on one-step problems until it gets some of them right, and ``settings`` with these problems."""
    settings = settings.changed(tasks={"math": settings.tasks["math"].changed(operations=(1, 1))})
    save_model(build_model(settings.base.model, seed=0), directory / "random")
    lesson = settings.changed(sft=settings.sft.changed(steps=60, learning_rate=5e-3), drift_prompts=0, snapshots=False)
    taught = train_sft(lesson, directory / "random", directory, lambda decoder, step: {})
    save_model(taught.model, directory / "taught")
    return directory / "taught", settings
