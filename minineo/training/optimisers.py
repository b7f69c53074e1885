"""Optimisers: they turn gradients into better parameters, step by step. AdamW, SGD and Muon.

Parameters, gradients and state are flat dictionaries with the checkpoint's names. What an optimiser remembers from one
step to the next is `state`, keyed "<parameter>.<moment>", and `steps`, the number of steps taken: saved and loaded
again, a run goes on bit for bit.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from array_api_compat import array_namespace

from minineo.arrays import Array
from minineo.config_checks import check_integer
from minineo.training import checks, updates
from minineo.training.checks import Arrays

Decays = Callable[[str, Array], bool]
Each = Callable[[Callable[[str], None], Iterable[str]], Iterable[None]]

EMBEDDINGS = ("wte.weight", "wpe.weight")
IN_BLOCK = re.compile(r"(^|\.)h\.\d+\..*weight$")


def default_decay(name: str, array: Array) -> bool:
    """Whether weight decay applies: to the matrices of linear layers, not to embeddings, biases and layer norms.

    Decay limits how strongly a linear layer mixes its inputs. A bias or norm mixes nothing, and the embedding of a rare
    token would fade between its occurrences.
    """
    return array.ndim == 2 and not name.endswith(EMBEDDINGS)


def is_matrix_in_block(name: str, array: Array) -> bool:
    """Whether Muon orthogonalises the updates of this parameter: it is a matrix of a linear layer in a block."""
    return array.ndim == 2 and IN_BLOCK.search(name) is not None


class Optimiser:
    """What all optimisers share: the state, the checks and the loop over the parameters."""

    moments: tuple[str, ...] = ()  # all that this optimiser may keep for a parameter

    def __init__(self, weight_decay: float, decays: Decays) -> None:
        self.weight_decay = checks.not_negative("weight_decay", weight_decay)
        if not callable(decays):
            raise TypeError(f"decays: received {decays!r}, expected a function of a parameter's name and array.")
        self.decays = decays
        self.state: Arrays = {}
        self.steps = 0

    def step(self, params: Arrays, grads: Arrays, learning_rate: float, each: Each = map) -> None:
        """Change the arrays of `params` in place, by their gradients, which stay as they are. Same keys and shapes.

        The first step makes the state, in the library, on the device and in the dtype of the parameters. The learning
        rate may be 0, where schedules end. Gradients are not searched for NaN: a run has to look at its loss.
        Parameters that are not to learn are left out of both dictionaries, in all steps. `each` calls a function for
        each parameter, as `map` does one after the other and a thread pool's `map` on several cores.

        Raises:
            ValueError: names, shapes or dtypes differ, parameters are read-only or of 16 bits, the learning rate is
                negative or not finite, or a loaded state is of another model. Nothing has been changed then.
            TypeError: gradients or state are of another array library than the parameters.
        """
        learning_rate = checks.not_negative("learning_rate", learning_rate)
        checks.check_gradients(params, grads)
        if self.steps == 0 and not self.state:
            self.state = {key: array_namespace(param).zeros_like(param) for key, param in self._keys(params).items()}
        self._check_state(self.state, self.steps, params)
        self.steps += 1

        def update(name: str) -> None:
            param = params[name]
            moments = [self.state[f"{name}.{moment}"] for moment in self.moments_of(name, param)]
            decay = self.weight_decay if self.decays(name, param) else 0.0
            self.update(name, param, grads[name], moments, learning_rate, decay)

        for _ in each(update, params):  # the results are nothing, but map calls nothing before they are asked for
            pass

    def load_state(self, state: Arrays, steps: int, params: Arrays | None = None) -> None:
        """Go on from the `state` and `steps` of an optimiser of the same kind; the arrays are copied.

        Names and shapes are compared with those of `params`, here or, where they are not given, in the next step.

        Raises:
            ValueError: the state is of another optimiser or model, or steps is negative. Nothing has been changed then.
        """
        check_integer("steps", steps, minimum=0)
        for key in state:
            if key.rpartition(".")[2] not in self.moments:
                raise ValueError(
                    f"state: received {key!r}, but this {type(self).__name__} keeps "
                    f"{list(self.moments) or 'nothing'} for a parameter. "
                    "Resume with the optimiser and the options that wrote the state."
                )
        if params is not None:
            self._check_state(state, steps, params)
        self.state = {key: array_namespace(array).asarray(array, copy=True) for key, array in state.items()}
        self.steps = steps

    def moments_of(self, name: str, param: Array) -> tuple[str, ...]:
        """What is kept for this parameter, in the order in which `update` takes it."""
        return self.moments

    def update(
        self, name: str, param: Array, gradient: Array, moments: list[Array], learning_rate: float, decay: float
    ) -> None:
        """Change one parameter and its moments in place."""
        raise NotImplementedError

    def _keys(self, params: Arrays) -> Arrays:
        """The key of every moment, with the parameter whose shape and dtype it has."""
        return {f"{name}.{moment}": param for name, param in params.items() for moment in self.moments_of(name, param)}

    def _check_state(self, state: Arrays, steps: int, params: Arrays) -> None:
        """Raise unless it is a state that this optimiser can have for these parameters after so many steps."""
        if steps == 0 and not state:
            return  # the first step will make it
        expected = self._keys(params)
        checks.check_names("state", state, f"moments that {type(self).__name__} keeps for these parameters", expected)
        for key, param in expected.items():
            checks.check_like(f"state[{key!r}]", state[key], "its parameter", param)


class SGD(Optimiser):
    """Stochastic gradient descent, with or without momentum, as torch.optim.SGD computes it (without dampening).

    So the decay is L2 regularisation, added to the gradient, not AdamW's decoupled one; and the momentum gathers
    gradients, not an average of them: with momentum 0.9, steps grow up to ten times as long.
    """

    def __init__(self, momentum: float = 0.0, weight_decay: float = 0.0, decays: Decays = default_decay) -> None:
        super().__init__(weight_decay, decays)
        self.momentum = checks.share_kept("momentum", momentum)
        self.moments = ("momentum",) if self.momentum else ()

    def update(
        self, name: str, param: Array, gradient: Array, moments: list[Array], learning_rate: float, decay: float
    ) -> None:
        """Apply `sgd` or `sgd_with_momentum`."""
        for piece, gradient_piece, *velocity in updates.in_pieces(param, gradient, *moments):
            if velocity:
                updates.sgd_with_momentum(piece, gradient_piece, velocity[0], learning_rate, self.momentum, decay)
            else:
                updates.sgd(piece, gradient_piece, learning_rate, decay)


class AdamW(Optimiser):
    """Adam with decoupled weight decay, as torch.optim.AdamW computes it, and with its defaults.

    By default the decay applies to the matrices of linear layers only (`default_decay`); torch's to all parameters,
    which is `decays=lambda name, array: True`.
    """

    moments: tuple[str, ...] = ("first_moment", "second_moment")

    def __init__(
        self,
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-8,
        weight_decay: float = 0.01,
        decays: Decays = default_decay,
    ) -> None:
        super().__init__(weight_decay, decays)
        if not isinstance(betas, tuple | list) or len(betas) != 2:
            raise TypeError(f"betas: received {betas!r}, expected two numbers, such as (0.9, 0.999).")
        self.betas = (checks.share_kept("betas[0]", betas[0]), checks.share_kept("betas[1]", betas[1]))
        # Where a gradient was always 0, as for a token that never occurs, 0 / 0 would be NaN without it
        self.epsilon = checks.positive("epsilon", epsilon)

    def update(
        self, name: str, param: Array, gradient: Array, moments: list[Array], learning_rate: float, decay: float
    ) -> None:
        """Apply `adamw`."""
        for piece, gradient_piece, first, second in updates.in_pieces(param, gradient, *moments):
            updates.adamw(
                piece, gradient_piece, first, second, learning_rate, self.betas, self.epsilon, decay, self.steps
            )


class Muon(AdamW):
    """Muon for the matrices in the blocks, AdamW for all else: embeddings, norms, biases and heads.

    Momentum, scale and decay are those of torch.optim.Muon with `adjust_lr_fn="match_rms_adamw"`. It orthogonalises in
    bfloat16, this one in the precision of the parameters. betas and epsilon are AdamW's; the weight decay and the
    learning rate are those of both.
    """

    moments = (*AdamW.moments, "momentum")

    def __init__(
        self,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-8,
        weight_decay: float = 0.1,
        decays: Decays = default_decay,
    ) -> None:
        super().__init__(betas, epsilon, weight_decay, decays)
        self.momentum = checks.share_kept("momentum", momentum)

    def moments_of(self, name: str, param: Array) -> tuple[str, ...]:
        """The momentum of a matrix in a block, AdamW's moments of other parameters."""
        return ("momentum",) if is_matrix_in_block(name, param) else AdamW.moments

    def update(
        self, name: str, param: Array, gradient: Array, moments: list[Array], learning_rate: float, decay: float
    ) -> None:
        """Apply `muon` or `adamw`."""
        if is_matrix_in_block(name, param):
            updates.muon(param, gradient, moments[0], learning_rate, self.momentum, decay)
        else:
            super().update(name, param, gradient, moments, learning_rate, decay)
