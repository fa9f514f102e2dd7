"""Virtual time of a split cluster: generators and trainers as two pools that wait for each other.

Compute, the x axis of every P1 figure, is virtual accelerator-seconds: the elapsed virtual time times all
accelerators, busy or idle. The rates are 2N FLOPs per generated token and 6N per trained token (N parameters);
prefill and synchronisation are free. Wall time plays no part, so the axis does not depend on the machine.
"""

from dataclasses import asdict, dataclass

from rlscape.settings.training import RLSettings


@dataclass
class Clock:
    """Times in virtual seconds since the start."""

    seconds_per_generated_token: float
    seconds_per_trained_token: float
    accelerators: int
    generator_accelerators: int
    trainer_accelerators: int
    generator: float = 0.0
    """When the generators are done with what they have been given."""
    trainer: float = 0.0
    """When the trainers are."""
    generator_idle: float = 0.0
    trainer_idle: float = 0.0

    @classmethod
    def of(cls, rl: RLSettings, parameters: int) -> "Clock":
        generating = rl.generator_accelerators * rl.accelerator_flops * rl.decode_utilisation
        training = rl.trainer_accelerators * rl.accelerator_flops
        return cls(
            seconds_per_generated_token=2 * parameters / generating,
            seconds_per_trained_token=6 * parameters / training,
            accelerators=rl.generator_accelerators + rl.trainer_accelerators,
            generator_accelerators=rl.generator_accelerators,
            trainer_accelerators=rl.trainer_accelerators,
        )

    @property
    def compute(self) -> float:
        """Accelerator-seconds until the latest update was finished."""
        return self.accelerators * self.trainer

    @property
    def trainer_is_free(self) -> bool:
        return self.trainer <= self.generator

    def generate(self, tokens: int) -> None:
        """The generators decode ``tokens``."""
        self.generator += tokens * self.seconds_per_generated_token

    def train(self, tokens: int) -> None:
        """The trainers start now, at generator time, and work through ``tokens``."""
        start = max(self.trainer, self.generator)
        self.trainer_idle += start - self.trainer
        self.trainer = start + tokens * self.seconds_per_trained_token

    def wait_for_trainer(self) -> None:
        """The generators stand still until the current update is finished."""
        if self.trainer > self.generator:
            self.generator_idle += self.trainer - self.generator
            self.generator = self.trainer

    def state_dict(self) -> dict[str, float]:
        return asdict(self)
