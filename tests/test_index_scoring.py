"""The figures of an evaluation, worked by hand."""

from __future__ import annotations

import pytest

from cellvigil.errors import UsageError
from cellvigil_indexes.evaluating.scoring import mean_and_spread, score

CLASSES = ("a", "b", "c")
# True a: 3 called a, 1 called b. True b: 1 called b, 1 unknown. No c in the target, but one a... is called c.
TRUTH = ["a"] * 5 + ["b"] * 2
CALLED = ["a", "a", "a", "b", "c", "b", "unknown"]


def test_unknown_counts_as_wrong():
    found = score(TRUTH, CALLED, CLASSES)
    # Recall a 3/5, b 1/2; precision a 3/3, b 1/2; F1 a = 2*3/(5+3) = 0.75, b = 2*1/(2+2) = 0.5.
    assert found.n == 7
    assert found.balanced_accuracy == pytest.approx((3 / 5 + 1 / 2) / 2)
    assert found.macro_precision == pytest.approx((1 + 1 / 2) / 2)
    assert found.weighted_f1 == pytest.approx((5 * 0.75 + 2 * 0.5) / 7)
    assert found.accuracy == pytest.approx(4 / 7)
    assert found.unknown_ratio == pytest.approx(1 / 7)
    assert found.confusion["b"] == {"a": 0, "b": 1, "c": 0, "unknown": 1}


def test_classes_that_the_target_lacks_are_left_out_of_the_averages():
    assert list(score(TRUTH, CALLED, CLASSES).per_class) == ["a", "b"]


def test_abstaining_leaves_unknown_cells_out():
    found = score(TRUTH, CALLED, CLASSES, abstain=True)
    assert found.n == 6
    assert found.balanced_accuracy == pytest.approx((3 / 5 + 1) / 2)
    assert found.accuracy == pytest.approx(4 / 6)
    assert found.unknown_ratio == pytest.approx(1 / 7)


def test_a_class_never_called_has_precision_zero():
    found = score(["a", "b"], ["a", "a"], CLASSES)
    assert found.per_class["b"].precision == 0
    assert found.per_class["b"].f1 == 0


@pytest.mark.parametrize(("truth", "called"), [([], []), (["a"], ["unknown"])])
def test_nothing_to_score(truth, called):
    with pytest.raises(UsageError, match="no cell to score"):
        score(truth, called, CLASSES, abstain=True)


def test_mean_and_sample_deviation_over_runs():
    runs = [score(["a", "a"], called, CLASSES) for called in (["a", "a"], ["a", "b"], ["b", "b"])]
    assert mean_and_spread(runs)["accuracy"] == {"mean": pytest.approx(0.5), "std": pytest.approx(0.5)}
    assert mean_and_spread(runs[:1])["accuracy"] == {"mean": 1.0, "std": 0.0}
