"""What changes in the course of a run: the learning rate and the losses."""

import ml_collections
import optax


def adversarial_from(config: ml_collections.ConfigDict, steps_per_epoch: int) -> int:
    """The number of steps that are taken before the discriminator comes in."""
    return round(config.loss.adversarial_from_epoch * steps_per_epoch)


def learning_rate(
    config: ml_collections.ConfigDict, steps_per_epoch: int, first_step: int = 0
) -> float | optax.Schedule:
    """Constant, then linear to 0 over the last `decay_epochs`, as in pix2pix.

    Args:
      config: of the run.
      steps_per_epoch: of the run.
      first_step: how many steps the run takes before the network's first one.

    Returns:
      The learning rate, or a function of the steps that the network has taken.
    """
    learning_rate = config.optimizer.learning_rate
    decay_steps = round(config.optimizer.decay_epochs * steps_per_epoch)
    if decay_steps == 0:
        return learning_rate
    schedule = optax.schedules.linear_schedule(
        learning_rate,
        0.0,
        transition_steps=decay_steps,
        transition_begin=config.epochs * steps_per_epoch - decay_steps,
    )
    return lambda steps: schedule(first_step + steps)
