"""How many prompts and sequences reinforcement learning has at once."""

from rlscape.settings.recipe import Recipe
from rlscape.settings.run import RunSettings


def prompts_per_batch(settings: RunSettings) -> int:
    """P, groups per update: the recipe's, scaled."""
    assert settings.recipe is not None
    return max(1, round(settings.recipe.prompts_per_batch * settings.rl.prompt_scale))


def most_outstanding(recipe: Recipe, prompts: int) -> int:
    """Groups that are generated or held at most, of ``prompts`` per update."""
    return (recipe.batches_in_flight or recipe.off_policy_steps) * prompts


def most_sequences(settings: RunSettings) -> int:
    """Sequences that are generated or held at most."""
    assert settings.recipe is not None
    return most_outstanding(settings.recipe, prompts_per_batch(settings)) * settings.recipe.generations_per_prompt
