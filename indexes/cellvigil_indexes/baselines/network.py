"""NMTune: a small network behind frozen encoders, kept close to their features by three terms.

Chen et al., "Understanding and Mitigating the Label Noise in Pre-training on Downstream Tasks" (ICLR 2024), section 4:
L = CE + lambda (L_MSE + L_COV + L_SVD), with features F (M, D) of a batch and their image Z = g(F):

    L_MSE = || F / |F| - Z / |Z| ||^2            (mean over the M cells)
    L_COV = 1/D sum_{i != j} Cov(Z)_ij^2         (Cov with M - 1)
    L_SVD = - sigma_1(Z) / sum_j sigma_j(Z)

As EWC-FAISS sets it (Frontiers in Oncology 2025, section 2.4.3): 200 principal components, a two-layer MLP with 800
hidden units, Adam 1e-3, 10 epochs, lambda 0.01. The MLP is D x 4D, ReLU, 4D x D, and a linear layer classifies Z: the
optimal transport paper of the same group spells it out, and 800 = 4 x 200. They do not say the size of a batch; 64
here. Weights begin as torch's `Linear` does. Vectors have no augmented views, so F and Z are of the same picture.

Gradients are written by hand, so that no one needs torch; a test holds them against its autograd.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cellvigil.data import F32, I16, I64, Array
from cellvigil_indexes.baselines.adam import Adam

COMPONENTS = 200
HIDDEN = 800
EPOCHS = 10
BATCH = 64
LAMBDA = 0.01

Weights = dict[str, Array]
"""w1 (D, H), b1 (H,), w2 (H, D), b2 (D,), w3 (D, C), b3 (C,)."""


@dataclass(frozen=True, slots=True, eq=False)
class Projection:
    """Principal components of the training cells."""

    mean: F32  # (d,)
    axes: F32  # (d, D), orthonormal columns, most variance first

    def of(self, vectors: F32) -> F32:
        """(n, D) f32, not whitened."""
        return np.asarray((vectors - self.mean) @ self.axes, dtype=np.float32)


def nmtune(vectors: F32, labels: I16, queries: F32, classes: int, seed: int) -> F32:
    """Class probabilities of the queries; a baseline, see the package."""
    projection = components(vectors, COMPONENTS)
    weights = trained(projection.of(vectors), np.asarray(labels, dtype=np.int64), classes, seed)
    return softmax(forward(weights, projection.of(queries))[2])


def components(vectors: F32, wanted: int) -> Projection:
    """The first `wanted` principal components, fewer where the cells span fewer. Raises ValueError without cells."""
    if not len(vectors):
        raise ValueError("no cells to find components of")
    mean = vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
    exact: Array = (vectors - mean).astype(np.float64)
    wide = len(vectors) < vectors.shape[1]  # the smaller of the two squares has the same spectrum
    square: Array = exact @ exact.T if wide else exact.T @ exact
    values, turned = np.linalg.eigh(square)
    kept = _leading(values, wanted)
    axes: Array = turned[:, kept]
    if wide:
        axes = exact.T @ axes / np.sqrt(np.maximum(values[kept], np.finfo(np.float64).tiny))
    return Projection(mean, axes.astype(np.float32))


def _leading(values: npt.NDArray[np.float64], wanted: int) -> I64:
    """Places of the largest eigenvalues, largest first, without those that are rounding; at least one."""
    order = np.argsort(values)[::-1][:wanted]
    real = order[values[order] > 1e-10 * max(float(values[order[0]]), np.finfo(np.float64).tiny)]
    return np.asarray(real if len(real) else order[:1], dtype=np.int64)


def trained(features: F32, labels: I64, classes: int, seed: int) -> Weights:
    """Weights after EPOCHS of Adam over shuffled batches. `features` (N, D) f32, `labels` (N,)."""
    rng = np.random.default_rng(seed)
    weights = fresh(features.shape[1], classes, rng)
    adam = Adam(weights)
    for _ in range(EPOCHS):
        for rows in _batches(len(features), rng):
            _, slopes = loss_and_slopes(weights, features[rows], labels[rows])
            adam.step(slopes)
    return weights


def fresh(width: int, classes: int, rng: np.random.Generator) -> Weights:
    """Weights and biases uniform in +-1 / sqrt(inputs), f32: what torch's `Linear` begins with."""
    shapes = {"1": (width, HIDDEN), "2": (HIDDEN, width), "3": (width, classes)}
    weights: Weights = {}
    for layer, (inputs, outputs) in shapes.items():
        bound = 1 / np.sqrt(inputs)
        weights["w" + layer] = rng.uniform(-bound, bound, (inputs, outputs)).astype(np.float32)
        weights["b" + layer] = rng.uniform(-bound, bound, outputs).astype(np.float32)
    return weights


def forward(weights: Weights, features: Array) -> tuple[Array, Array, Array]:
    """Hidden layer after its ReLU (M, H), Z (M, D), and logits (M, C)."""
    hidden = np.maximum(features @ weights["w1"] + weights["b1"], 0)
    image = hidden @ weights["w2"] + weights["b2"]
    return hidden, image, image @ weights["w3"] + weights["b3"]


def loss_and_slopes(weights: Weights, features: Array, labels: I64, strength: float = LAMBDA) -> tuple[float, Weights]:
    """The loss of a batch, and its gradient by weight. `features` (M, D), `labels` (M,)."""
    hidden, image, logits = forward(weights, features)
    cells = len(features)
    chances = softmax(logits)
    loss = -float(np.mean(np.log(np.maximum(chances[np.arange(cells), labels], 1e-30))))
    d_logits = chances
    d_logits[np.arange(cells), labels] -= 1
    d_logits /= cells
    d_image: Array = d_logits @ weights["w3"].T
    for term in (consistency, decorrelation, dominance):
        value, slope = term(features, image)
        loss += strength * value
        d_image = d_image + strength * slope
    d_hidden = (d_image @ weights["w2"].T) * (hidden > 0)
    return loss, {
        "w1": features.T @ d_hidden,
        "b1": d_hidden.sum(axis=0),
        "w2": hidden.T @ d_image,
        "b2": d_image.sum(axis=0),
        "w3": image.T @ d_logits,
        "b3": d_logits.sum(axis=0),
    }


def consistency(features: Array, image: Array) -> tuple[float, Array]:
    """L_MSE and its gradient by Z: (I - z z^T) 2 (z - f) / |Z| for unit vectors z and f, over M."""
    unit_f, _ = _units(features)
    unit_z, lengths = _units(image)
    apart = unit_z - unit_f
    across = apart - unit_z * np.sum(apart * unit_z, axis=1, keepdims=True)
    return float(np.mean(np.sum(apart**2, axis=1))), 2 * across / lengths / len(image)


def decorrelation(features: Array, image: Array) -> tuple[float, Array]:
    """L_COV and its gradient by Z: 4 (Z - mean) Off / (D (M - 1)), Off the covariance without its diagonal."""
    del features
    centred = image - image.mean(axis=0)
    freedom = max(len(image) - 1, 1)
    off = centred.T @ centred / freedom
    np.fill_diagonal(off, 0)
    width = image.shape[1]
    return float(np.sum(off**2)) / width, 4 * (centred @ off) / (width * freedom)


def dominance(features: Array, image: Array) -> tuple[float, Array]:
    """L_SVD and its gradient by Z: -u1 v1^T / S + sigma_1 U V^T / S^2, S the sum of the singular values."""
    del features
    left, values, right = np.linalg.svd(image, full_matrices=False)
    total = max(float(values.sum()), 1e-30)
    ratio = float(values[0]) / total
    return -ratio, (ratio * (left @ right) - np.outer(left[:, 0], right[0])) / total


def softmax(logits: Array) -> F32:
    """Rows of probabilities, (M, C), in the logits' own precision."""
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


def _units(rows: Array) -> tuple[Array, Array]:
    """Rows of length 1, and the lengths that they had (M, 1); never less than torch's `normalize` allows, 1e-12."""
    lengths = np.maximum(np.sqrt(np.sum(rows * rows, axis=1, keepdims=True)), 1e-12)
    return rows / lengths, lengths


def _batches(cells: int, rng: np.random.Generator) -> Iterator[I64]:
    """Shuffled rows in batches of nearly equal size, none of them larger than BATCH."""
    yield from np.array_split(rng.permutation(cells), max(1, -(-cells // BATCH)))
