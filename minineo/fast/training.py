"""Forward and backward through the transformer for training, fast: what backward reads is kept as it is made.

The reference records intermediates by name and looks each up again. Here every block writes what its backward will read
into memory of the last step, q, k and v are one product, attention goes block by block, and the residual stream and its
gradient are one array each, added to in place.

Dimensions: B batch, T positions, N = B * T rows, D hidden size, M inner size, H heads, d head size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from minineo.arrays import Array
from minineo.config import GPTNeoConfig
from minineo.fast.activations import activation_and_slope
from minineo.fast.attention_training import attention_backward, attention_to_keep, room_for_exponentials
from minineo.fast.embedding import embedding_backward
from minineo.fast.layer_norm import layer_norm_backward, layer_norm_to_keep
from minineo.fast.layout import qkv_weight
from minineo.fast.workspace import Workspace
from minineo.layers.dropout import Masks
from minineo.model.block import Params
from minineo.model.transformer import embed
from minineo.tap import no_tap

ROWS = 512  # rows of the MLP at a time: its inner layer then stays near the core


@dataclass
class Kept:
    """What one block leaves for its backward: rows (N, ...), and the exponentials of its attention scores."""

    normalised_1: Array  # (N, D), as are ln_1, z, normalised_2 and ln_2
    deviation_1: Array  # (N, 1)
    ln_1: Array
    qkv: Array  # (N, 3 D)
    exponentials: Array
    sums: Array  # (B, H, T, 1)
    z: Array
    normalised_2: Array
    deviation_2: Array
    ln_2: Array
    act: Array  # (N, M)
    slope: Array  # (N, M), the activation's derivative


class TrainingPass:
    """One pass of a batch through the transformer, forward and then backward.

    `inputs` are those of `minineo.model.transformer.transformer` from input_ids to inputs_embeds. `masks` gives
    dropout's mask for an intermediate, or None. With `checkpointing` the blocks' inputs are kept and nothing else:
    backward runs each block again. `workspace` lends the memory, and must not be shared with another pass before this
    one is over.
    """

    def __init__(
        self,
        params: Params,
        config: GPTNeoConfig,
        inputs: Mapping[str, Array | None],
        prefix: str,
        masks: Masks,
        checkpointing: bool,
        workspace: Workspace,
    ) -> None:
        self.params, self.config, self.inputs, self.prefix = params, config, inputs, prefix
        self.masks, self.checkpointing, self.workspace = masks, checkpointing, workspace
        attention_mask = inputs["attention_mask"]
        self.real = None if attention_mask is None or attention_mask.all() else attention_mask != 0
        self.streams: list[Array] = []  # what each block took, where blocks are run again
        self.kept: list[Kept] = []
        self.shape = (0, 0)
        self.normalised: Array  # (N, D), of ln_f, as is
        self.deviation: Array  # (N, 1)

    def forward(self) -> Array:
        """The last hidden state, (B, T, D)."""
        config, inputs = self.config, self.inputs
        embedded = embed(
            self.params,
            inputs["input_ids"],
            inputs["position_ids"],
            inputs["token_type_ids"],
            inputs["inputs_embeds"],
            0,
            no_tap,
            self.prefix,
        )
        B, T, D = embedded.shape
        self.shape = (B, T)
        x = embedded.reshape(B * T, D)
        _apply(x, self.masks("embed", embedded.shape, x))
        for i in range(config.num_layers):
            if self.checkpointing:
                self.streams.append(x.copy())
            self.kept.append(self._block(i, x))
        weight, bias = (self.params[f"{self.prefix}ln_f.{name}"] for name in ("weight", "bias"))
        y, self.normalised, self.deviation = (
            self.workspace(f"ln_f.{name}", (B * T, width), x.dtype)
            for name, width in (("y", D), ("normalised", D), ("deviation", 1))
        )
        layer_norm_to_keep(x, weight, bias, config.layer_norm_epsilon, y, self.normalised, self.deviation)
        return y.reshape(B, T, D)

    def backward(self, dhidden: Array) -> Params:
        """Gradients of all the transformer's parameters, from that of its last hidden state (B, T, D)."""
        prefix, config = self.prefix, self.config
        B, T, D = dhidden.shape
        dx = np.zeros((B * T, D), dhidden.dtype)
        weight = self.params[f"{prefix}ln_f.weight"]
        dweight, dbias = layer_norm_backward(dhidden.reshape(B * T, D), self.normalised, self.deviation, weight, dx)
        grads = {f"{prefix}ln_f.weight": dweight, f"{prefix}ln_f.bias": dbias}
        for i in reversed(range(config.num_layers)):
            kept = self._block(i, self.streams[i]) if self.checkpointing else self.kept[i]
            grads |= self._block_backward(i, dx, kept)
        _apply(dx, self.masks("embed", (B, T, D), dx))
        return grads | self._embed_backward(dx.reshape(B, T, D))

    def _block(self, i: int, x: Array) -> Kept:
        """Add what block i adds to the residual stream x (N, D), in place, and keep what its backward reads."""
        params, config, at = self.params, self.config, f"{self.prefix}h.{i}"
        (B, T), (N, D), H = self.shape, x.shape, config.num_heads
        window, epsilon = config.window(i), config.layer_norm_epsilon
        kept = self._memory(i, N, D, x.dtype)

        ln_1 = params[f"{at}.ln_1.weight"], params[f"{at}.ln_1.bias"]
        layer_norm_to_keep(x, *ln_1, epsilon, kept.ln_1, kept.normalised_1, kept.deviation_1)
        np.matmul(kept.ln_1, self._qkv_weight(at).T, out=kept.qkv)
        q, k, v = _heads(kept.qkv, B, T, H, 3)
        z = _heads(kept.z, B, T, H, 1)[0]
        mask = self.masks(f"h.{i}.attn.pattern", (B, H, T, T), x)
        attention_to_keep(q, k, v, window, self.real, mask, z, kept.exponentials, kept.sums)
        out = np.matmul(
            kept.z, params[f"{at}.attn.attention.out_proj.weight"].T, out=self._scratch("out", N, D, x.dtype)
        )
        out += params[f"{at}.attn.attention.out_proj.bias"]
        _apply(out, self.masks(f"h.{i}.attn.out", (B, T, D), x))
        x += out

        ln_2 = params[f"{at}.ln_2.weight"], params[f"{at}.ln_2.bias"]
        layer_norm_to_keep(x, *ln_2, epsilon, kept.ln_2, kept.normalised_2, kept.deviation_2)
        c_fc_weight, c_fc_bias = params[f"{at}.mlp.c_fc.weight"], params[f"{at}.mlp.c_fc.bias"]
        c_proj_weight, c_proj_bias = params[f"{at}.mlp.c_proj.weight"], params[f"{at}.mlp.c_proj.bias"]
        for start in range(0, N, ROWS):
            rows = slice(start, start + ROWS)
            pre = kept.ln_2[rows] @ c_fc_weight.T
            pre += c_fc_bias
            activation_and_slope(config.activation_function, pre, kept.act[rows], kept.slope[rows])
            np.matmul(kept.act[rows], c_proj_weight.T, out=out[rows])
        out += c_proj_bias
        _apply(out, self.masks(f"h.{i}.mlp.out", (B, T, D), x))
        x += out
        return kept

    def _block_backward(self, i: int, dx: Array, kept: Kept) -> Params:
        """Gradients of block i's parameters; dx (N, D), the gradient of what it gave, becomes that of what it took."""
        return self._mlp_half_backward(i, dx, kept) | self._attention_half_backward(i, dx, kept)

    def _mlp_half_backward(self, i: int, dx: Array, kept: Kept) -> Params:
        """The second half of block i: gradients of its MLP and ln_2, dx (N, D) brought to where its attention ended."""
        params, config, at = self.params, self.config, f"{self.prefix}h.{i}"
        (B, T), (N, D) = self.shape, dx.shape
        grads: Params = {}
        dout = _dropped(dx, self.masks(f"h.{i}.mlp.out", (B, T, D), dx))
        dnormed = self._scratch("dnormed", N, D, dx.dtype)
        dpre = self._scratch("dpre", N, config.inner_size, dx.dtype)
        c_fc_weight, c_proj_weight = params[f"{at}.mlp.c_fc.weight"], params[f"{at}.mlp.c_proj.weight"]
        for start in range(0, N, ROWS):
            rows = slice(start, start + ROWS)
            np.matmul(dout[rows], c_proj_weight, out=dpre[rows])
            dpre[rows] *= kept.slope[rows]
            np.matmul(dpre[rows], c_fc_weight, out=dnormed[rows])
        grads[f"{at}.mlp.c_fc.weight"] = dpre.T @ kept.ln_2
        grads[f"{at}.mlp.c_fc.bias"] = _column_sums(dpre)
        grads[f"{at}.mlp.c_proj.weight"] = dout.T @ kept.act
        grads[f"{at}.mlp.c_proj.bias"] = _column_sums(dout)
        # the residual stream hands its gradient on unchanged; what came through the layer norm is added
        grads[f"{at}.ln_2.weight"], grads[f"{at}.ln_2.bias"] = layer_norm_backward(
            dnormed, kept.normalised_2, kept.deviation_2, params[f"{at}.ln_2.weight"], dx
        )
        return grads

    def _attention_half_backward(self, i: int, dx: Array, kept: Kept) -> Params:
        """The first half of block i: gradients of its attention and ln_1, dx (N, D) brought to where it began."""
        params, config, at = self.params, self.config, f"{self.prefix}h.{i}"
        attn = f"{at}.attn.attention"
        (B, T), (N, D), H = self.shape, dx.shape, config.num_heads
        grads: Params = {}
        dout = _dropped(dx, self.masks(f"h.{i}.attn.out", (B, T, D), dx))
        grads[f"{attn}.out_proj.weight"] = dout.T @ kept.z
        grads[f"{attn}.out_proj.bias"] = _column_sums(dout)
        dz = np.matmul(dout, params[f"{attn}.out_proj.weight"], out=self._scratch("out", N, D, dx.dtype))
        dqkv = self._scratch("dqkv", N, 3 * D, dx.dtype)
        q, k, v = _heads(kept.qkv, B, T, H, 3)
        dq, dk, dv = _heads(dqkv, B, T, H, 3)
        dz_heads, z_heads = _heads(dz, B, T, H, 1)[0], _heads(kept.z, B, T, H, 1)[0]
        mask = self.masks(f"h.{i}.attn.pattern", (B, H, T, T), dx)
        window = config.window(i)
        attention_backward(
            dz_heads, q, k, v, window, self.real, mask, z_heads, kept.exponentials, kept.sums, dq, dk, dv
        )
        dqkv_weight = dqkv.T @ kept.ln_1
        for j, name in enumerate("qkv"):
            grads[f"{attn}.{name}_proj.weight"] = dqkv_weight[j * D : (j + 1) * D]
        dnormed = np.matmul(dqkv, self._qkv_weight(at), out=self._scratch("dnormed", N, D, dx.dtype))
        grads[f"{at}.ln_1.weight"], grads[f"{at}.ln_1.bias"] = layer_norm_backward(
            dnormed, kept.normalised_1, kept.deviation_1, params[f"{at}.ln_1.weight"], dx
        )
        return grads

    def _embed_backward(self, dx: Array) -> Params:
        """Gradients of the two tables, as `minineo.model.backward.embed_backward`."""
        B, T, _ = dx.shape
        wte, wpe = (self.params[f"{self.prefix}{name}.weight"] for name in ("wte", "wpe"))
        position_ids = self.inputs["position_ids"]
        positions = np.arange(T)[None, :] if position_ids is None else position_ids
        dwte = np.zeros_like(wte)
        for name in ("input_ids", "token_type_ids"):
            ids = self.inputs[name]
            if ids is not None:
                dwte += embedding_backward(dx, ids, wte)
        dwpe = embedding_backward(dx, np.broadcast_to(positions, (B, T)), wpe)
        return {f"{self.prefix}wte.weight": dwte, f"{self.prefix}wpe.weight": dwpe}

    def _qkv_weight(self, at: str) -> Array:
        """The weights of q, k and v as one, (3 D, D): one product reads its input once, and is a larger one."""
        weight = qkv_weight(self.params, at)
        if weight is None:
            weight = np.concatenate([self.params[f"{at}.attn.attention.{name}_proj.weight"] for name in "qkv"])
        return weight

    def _memory(self, i: int, N: int, D: int, dtype: Any) -> Kept:
        """Room for what block i keeps: its own or, where blocks are run again, the same for all."""
        (B, T), H, M = self.shape, self.config.num_heads, self.config.inner_size
        widths = {"deviation_1": 1, "deviation_2": 1, "qkv": 3 * D, "act": M, "slope": M}
        shapes: dict[str, tuple[int, ...]] = {field.name: (N, widths.get(field.name, D)) for field in fields(Kept)}
        shapes["sums"] = (B, H, T, 1)
        shapes["exponentials"] = (room_for_exponentials(B, H, T, self.config.window(i)),)
        at = f"block {self.config.window(i)}" if self.checkpointing else f"h.{i}"
        return Kept(**{name: self.workspace(f"{at}.{name}", shape, dtype) for name, shape in shapes.items()})

    def _scratch(self, name: str, rows: int, width: int, dtype: Any) -> Array:
        """Memory that is free again when the block is done."""
        return self.workspace(name, (rows, width), dtype)


def _heads(rows: Array, B: int, T: int, H: int, parts: int) -> Array:
    """View rows (N, parts * D) as (parts, B, H, T, d)."""
    return rows.reshape(B, T, parts, H, -1).transpose(2, 0, 3, 1, 4)


def _column_sums(rows: Array) -> Array:
    """Sums over rows (N, D) -> (D,), as a product, which is faster than a sum."""
    return np.ones(len(rows), rows.dtype) @ rows


def _dropped(rows: Array, mask: Array | None) -> Array:
    """Rows (N, D) times dropout's mask (B, T, D)."""
    return rows if mask is None else rows * mask.reshape(rows.shape)


def _apply(rows: Array, mask: Array | None) -> None:
    """Multiply rows (N, D) by dropout's mask (B, T, D), in place."""
    if mask is not None:
        rows *= mask.reshape(rows.shape)
