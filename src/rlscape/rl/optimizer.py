"""AdamW on torch's fused kernel, and plain gradient descent.

``torch.optim`` computes the same, but making one of its optimisers imports torch's compiler, which takes a job as
long as importing torch itself.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw


class Optimizer:
    """Updates parameters in place; one without a gradient stays as it is."""

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        self.parameters = list(parameters)
        self.state: dict[str, Any] = {}

    def zero_grad(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None

    def step(self, learning_rate: float) -> None:
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        return self.state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.state = state


class AdamW(Optimizer):
    """Decoupled weight decay on every parameter; all parameters have a gradient whenever :meth:`step` is called."""

    def __init__(
        self, parameters: Iterable[Tensor], betas: tuple[float, float], epsilon: float, weight_decay: float
    ) -> None:
        super().__init__(parameters)
        self.betas = betas
        self.epsilon = epsilon
        self.weight_decay = weight_decay
        self.state = {
            "first_moments": [torch.zeros_like(parameter) for parameter in self.parameters],
            "second_moments": [torch.zeros_like(parameter) for parameter in self.parameters],
            "steps": [torch.tensor(0.0) for _ in self.parameters],
        }

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        adamw(
            self.parameters,
            [parameter.grad for parameter in self.parameters if parameter.grad is not None],
            self.state["first_moments"],
            self.state["second_moments"],
            [],
            self.state["steps"],
            fused=True,
            amsgrad=False,
            beta1=self.betas[0],
            beta2=self.betas[1],
            lr=learning_rate,
            weight_decay=self.weight_decay,
            eps=self.epsilon,
            maximize=False,
        )


class AdamWOnNoise(AdamW):
    """:class:`AdamW` that is given standard normal numbers in place of every gradient: a control, in which whatever the
    update has in common with that of learning comes from the optimiser's step, the weights and their rounding.

    Args:
        random: source of the numbers.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        betas: tuple[float, float],
        epsilon: float,
        weight_decay: float,
        random: torch.Generator,
    ) -> None:
        super().__init__(parameters, betas, epsilon, weight_decay)
        self.random = random

    def step(self, learning_rate: float) -> None:
        for parameter in self.parameters:
            if parameter.grad is not None:
                parameter.grad.normal_(generator=self.random)
        super().step(learning_rate)

    def state_dict(self) -> dict[str, Any]:
        return self.state | {"random": self.random.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.random.set_state(state.pop("random"))
        super().load_state_dict(state)


class SGD(Optimizer):
    """Gradient descent without momentum, equivariant under rotations of the weights, which AdamW is not.

    No weight decay: multiplied by a rate that suits gradients, the decay that suits AdamW would outweigh them.
    """

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        for parameter in self.parameters:
            if parameter.grad is not None:
                parameter.sub_(parameter.grad, alpha=learning_rate)
