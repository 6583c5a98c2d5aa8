"""The linear probe: multinomial logistic regression on frozen vectors, set as DinoBloom sets it.

DinoBloom (MICCAI 2024, "Evaluation"): "the sklearn LogisticRegression class is used with l2-regularization coefficient
of c n / 100 where n is the number of training samples, and c is the number of classes". Its published code
(marrlab/DinoBloom, dinov2/eval/general_patch_eval.py) has the vectors' dimension M for n: lambda = 100 / (M c),
C = 1 / lambda, L-BFGS, at most 1000 iterations, no scaling, no search; so has UNI (Chen et al., Nature Medicine 2024),
whose rule it is. The code made their figures, so we follow the code.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from cellvigil.data import F32, I16
from cellvigil.errors import UsageError

MAX_ITER = 1000


def linear_probe(vectors: F32, labels: I16, queries: F32, classes: int, seed: int) -> F32:
    """Class probabilities of the queries; 0 for a class that no training cell has. A baseline, see the package.

    Raises UsageError where scikit-learn is not installed.
    """
    del seed  # L-BFGS starts at zero
    there = np.unique(labels)
    out = np.zeros((len(queries), classes), dtype=np.float32)
    if len(there) < 2:
        out[:, there] = 1.0
        return out
    fit, asked = rotated(vectors, queries)
    model, unsettled = _logistic(vectors.shape[1] * len(there) / 100.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", unsettled)  # 1000 iterations and no more is their setting
        model.fit(fit, labels)
    out[:, model.classes_] = model.predict_proba(asked)
    return out


def rotated(vectors: F32, queries: F32) -> tuple[F32, F32]:
    """The same cells in no more dimensions than there are training cells; all inner products with them are kept.

    An L2-penalised fit lies in the span of its training cells, and L-BFGS from zero never leaves it: with more
    dimensions than cells the answer is the same, only sooner.
    """
    if vectors.shape[1] <= len(vectors):
        return vectors, queries
    basis, upper = np.linalg.qr(vectors.T)  # (d, N), (N, N)
    return np.ascontiguousarray(upper.T), np.ascontiguousarray(queries @ basis)


def _logistic(strength: float) -> tuple[Any, type[Warning]]:
    """A model with sklearn's C = `strength`, and the warning that it gives when it stops early."""
    try:
        from sklearn.exceptions import ConvergenceWarning  # noqa: PLC0415 - an extra
        from sklearn.linear_model import LogisticRegression  # noqa: PLC0415 - an extra
    except ImportError as error:
        hint = "pip install 'cellvigil[index]', or leave it out with --baselines"
        raise UsageError("the linear probe needs scikit-learn", hint=hint) from error
    return LogisticRegression(C=strength, max_iter=MAX_ITER, solver="lbfgs"), ConvergenceWarning
