"""The conditional GAN: losses, the state of both networks, and one training step.

Pure functions over a batch `{"L": [B, S, S, 1], "ab": [B, S, S, 2]}`, float32 in
[-1, 1]. With the batch sharded over devices, every mean below, those of BatchNorm
included, is over the global batch.
"""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct
from flax.training.train_state import TrainState
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from colorgan_jax.networks.discriminator import Discriminator
from colorgan_jax.networks.generator import Generator

Batch = dict[str, jax.Array]
Metrics = dict[str, jax.Array]


class NetworkState(TrainState):
    """A network's parameters, optimizer state and BatchNorm running statistics."""

    batch_stats: Any

    @property
    def variables(self) -> dict[str, Any]:
        """What `Module.apply` takes."""
        return self.join(self.params, self.batch_stats)

    def join(self, params: Any, batch_stats: Any) -> dict[str, Any]:
        """The variables with these trained parameters and statistics."""
        return {"params": params, "batch_stats": batch_stats}


class PartlyFrozenState(NetworkState):
    """The same for a network of which some layers are not trained.

    A class of its own, since checkpoints of other networks have no entry for them.

    Attributes:
      frozen: the parameters of those layers. `params` holds the others only, and so do
        the optimizer and the average.
    """

    frozen: dict[str, Any]

    def join(self, params: Any, batch_stats: Any) -> dict[str, Any]:
        """The variables with these trained parameters and statistics."""
        return {"params": {**self.frozen, **params}, "batch_stats": batch_stats}


class GANState(struct.PyTreeNode):
    """Everything that a training step reads and writes.

    Attributes:
      generator: the generator being trained.
      discriminator: the discriminator being trained.
      ema: exponential moving average of the generator's "params" and "batch_stats".
      key: random key of the run; step k draws its dropout from `fold_in(key, k)`.
    """

    generator: NetworkState
    discriminator: NetworkState
    ema: dict[str, Any]
    key: jax.Array

    @property
    def step(self) -> jax.Array | int:
        """Number of training steps taken."""
        return self.generator.step

    @property
    def averaged(self) -> dict[str, Any]:
        """The averaged generator's variables: what is validated and released."""
        return self.generator.join(**self.ema)


def create_state(
    key: jax.Array,
    generator: Generator,
    discriminator: Discriminator,
    *,
    learning_rate: float | optax.Schedule = 2e-4,
    discriminator_learning_rate: float | optax.Schedule | None = None,
    beta1: float = 0.5,
    beta2: float = 0.999,
    pretrained: Mapping[str, Any] | None = None,
) -> GANState:
    """Initializes both networks and their Adam optimizers.

    Args:
      key: random key; the same key gives the same state.
      generator: its `image_size` is also what the discriminator is initialized for. Its
        `frozen_layers` are kept out of training.
      discriminator: the PatchGAN.
      learning_rate: of both Adam optimizers (report, section 2.3); either a number or a
        function of the steps that the network has taken.
      discriminator_learning_rate: that of the discriminator, where it differs.
      beta1: of both Adam optimizers, the decay of the mean of gradients.
      beta2: of both Adam optimizers, the decay of the mean of squared gradients.
      pretrained: parameters for some of the generator's layers, in place of random ones.
    """
    generator_key, discriminator_key, run_key = jax.random.split(key, 3)
    size = generator.image_size
    L = jnp.zeros((1, size, size, 1))
    ab = jnp.zeros((1, size, size, 2))
    generator_variables = generator.init(generator_key, L, train=False)
    discriminator_variables = discriminator.init(discriminator_key, L, ab, train=False)

    def network_state(network, variables, learning_rate, frozen_layers=()):
        params = dict(variables["params"])
        fields = {
            "apply_fn": network.apply,
            "tx": optax.adam(learning_rate, b1=beta1, b2=beta2),
            # Folded generators have none.
            "batch_stats": variables.get("batch_stats", {}),
        }
        if not frozen_layers:
            return NetworkState.create(params=params, **fields)
        frozen = {name: params.pop(name) for name in frozen_layers}
        return PartlyFrozenState.create(params=params, frozen=frozen, **fields)

    generator_params = dict(generator_variables["params"]) | dict(pretrained or {})
    generator_state = network_state(
        generator,
        {**generator_variables, "params": generator_params},
        learning_rate,
        generator.frozen_layers,
    )
    discriminator_state = network_state(
        discriminator,
        discriminator_variables,
        learning_rate
        if discriminator_learning_rate is None
        else discriminator_learning_rate,
    )
    return GANState(
        generator=generator_state,
        discriminator=discriminator_state,
        # A copy: a donated state may not hold the same buffer twice.
        ema={
            "params": jax.tree.map(jnp.copy, generator_state.params),
            "batch_stats": jax.tree.map(jnp.copy, generator_state.batch_stats),
        },
        key=run_key,
    )


def adversarial_loss(
    logits: Float[Array, "*patches"], *, real: bool
) -> Float[Array, ""]:
    """Mean binary cross-entropy of patch logits against all real or all generated."""
    return jnp.mean(
        optax.sigmoid_binary_cross_entropy(logits, jnp.full_like(logits, real))
    )


def discriminator_loss(
    generated_logits: Float[Array, "*patches"], real_logits: Float[Array, "*patches"]
) -> Float[Array, ""]:
    """Binary cross-entropy on generated and on real photos (report, section 2.3).

    Their average, not their sum: pix2pix slows the discriminator down by that.
    """
    generated = adversarial_loss(generated_logits, real=False)
    real = adversarial_loss(real_logits, real=True)
    return (generated + real) / 2


@functools.partial(jax.jit, donate_argnames="state", static_argnames="adversarial")
def train_step(
    state: GANState,
    batch: Batch,
    *,
    l1_weight: ArrayLike = 100.0,
    adversarial_weight: ArrayLike = 1.0,
    ema_decay: ArrayLike = 0.999,
    adversarial: bool = True,
) -> tuple[GANState, Metrics]:
    """Adam on the discriminator, then on the generator (report, section 2.3).

    The generator runs forward once: its output trains the discriminator as a constant,
    and is then judged by the updated discriminator; the gradient of that judgment goes
    back through the same forward pass.

    Args:
      state: the state before. Donated: its arrays are gone afterwards, but where the
        call is part of another jitted function.
      batch: see the top of this module.
      l1_weight: weight of the L1 loss in the generator's loss (lambda in pix2pix).
      adversarial_weight: weight of the adversarial loss in the generator's loss.
      ema_decay: decay of the average per step, from 0 (none) to below 1.
      adversarial: False leaves the discriminator out, neither run nor trained, and the
        generator has its L1 loss alone. Compiled once for either value; the weights
        may change from step to step.

    Returns:
      The state after, and the step's scalars: "discriminator_loss", "generator_loss" and
      its two unweighted parts "adversarial_loss" and "l1_loss", and the global norms of
      both gradients. Without the discriminator what belongs to it is left out.
    """
    generator, discriminator = state.generator, state.discriminator
    L, ab = batch["L"], batch["ab"]
    dropout_key = jax.random.fold_in(state.key, state.step)

    def generate(params):
        return generator.apply_fn(
            generator.join(params, generator.batch_stats),
            L,
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": dropout_key},
        )

    generated_ab, backpropagate, generator_updates = jax.vjp(
        generate, generator.params, has_aux=True
    )

    def judge(params, batch_stats, judged_ab):
        logits, updates = discriminator.apply_fn(
            {"params": params, "batch_stats": batch_stats},
            L,
            judged_ab,
            train=True,
            mutable=["batch_stats"],
        )
        return logits, updates["batch_stats"]

    def loss_of_discriminator(params):
        generated_logits, batch_stats = judge(
            params, discriminator.batch_stats, generated_ab
        )
        real_logits, batch_stats = judge(params, batch_stats, ab)
        return discriminator_loss(generated_logits, real_logits), batch_stats

    metrics = {}
    if adversarial:
        (metrics["discriminator_loss"], batch_stats), gradient = jax.value_and_grad(
            loss_of_discriminator, has_aux=True
        )(discriminator.params)
        metrics["discriminator_gradient_norm"] = optax.tree.norm(gradient)
        discriminator = discriminator.apply_gradients(
            grads=gradient, batch_stats=batch_stats
        )

    def loss_of_generated(judged_ab):
        l1 = jnp.mean(jnp.abs(judged_ab - ab))
        if not adversarial:
            return l1_weight * l1, {"l1_loss": l1}
        logits, _ = judge(discriminator.params, discriminator.batch_stats, judged_ab)
        fooling = adversarial_loss(logits, real=True)
        loss = adversarial_weight * fooling + l1_weight * l1
        return loss, {"adversarial_loss": fooling, "l1_loss": l1}

    (metrics["generator_loss"], parts), ab_gradient = jax.value_and_grad(
        loss_of_generated, has_aux=True
    )(generated_ab)
    (gradient,) = backpropagate(ab_gradient)
    metrics |= parts
    metrics["generator_gradient_norm"] = optax.tree.norm(gradient)
    generator = generator.apply_gradients(
        grads=gradient, batch_stats=generator_updates.get("batch_stats", {})
    )

    # While the average is younger than its horizon it follows faster, so that it soon
    # forgets the random initial parameters.
    decay = jnp.minimum(ema_decay, (1.0 + state.step) / (10.0 + state.step))
    latest = {"params": generator.params, "batch_stats": generator.batch_stats}
    # decay * ema + (1 - decay) * latest; the other way round, 1 - (1 - decay) is rounded.
    ema = optax.incremental_update(state.ema, latest, step_size=decay)
    state = state.replace(generator=generator, discriminator=discriminator, ema=ema)
    return state, metrics
