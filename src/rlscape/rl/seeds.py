"""Independent sources of random numbers of one run."""

import numpy as np
import torch

from rlscape.settings.run import RunSettings


def random_source(settings: RunSettings, stream: int) -> torch.Generator:
    """One for each ``stream`` of a run; RL's samples and evaluations use 1 and 2, noise for gradients 5."""
    seed = np.random.SeedSequence((settings.seed, stream)).generate_state(1)[0]
    return torch.Generator(torch.get_default_device()).manual_seed(int(seed))
