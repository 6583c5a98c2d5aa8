"""The plain classifiers that an index is held against."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellvigil.errors import UsageError
from cellvigil_indexes.baselines import BASELINES, named
from cellvigil_indexes.baselines import network as net
from cellvigil_indexes.baselines.adam import Adam
from cellvigil_indexes.baselines.linear import linear_probe, rotated
from cellvigil_indexes.baselines.neighbours import knn, knn_chosen, majority, shares

CLASSES = 3


def clouds(each=40, width=12, apart=3.0, seed=0, scale=1.0):
    """Three round clouds of cells: (vectors, labels)."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(CLASSES), each).astype(np.int16)
    centres = np.eye(CLASSES, width) * apart
    vectors = (centres[labels] + rng.normal(size=(len(labels), width))) * scale
    order = rng.permutation(len(labels))
    return vectors[order].astype(np.float32), labels[order]


@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_gives_shares_of_classes_that_repeat_and_owe_nothing_to_the_other_queries(name):
    vectors, labels = clouds()
    queries, truth = clouds(each=20, seed=1)
    found = BASELINES[name](vectors, labels, queries, CLASSES, 7)
    assert (found.shape, found.dtype) == ((60, CLASSES), np.float32)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(found, BASELINES[name](vectors, labels, queries, CLASSES, 7))
    alone = BASELINES[name](vectors, labels, queries[:1], CLASSES, 7)
    np.testing.assert_allclose(found[:1], alone, atol=1e-5)
    right = (found.argmax(axis=1) == truth).mean()
    assert right == pytest.approx(1 / 3) if name == "majority" else right > 0.85


@pytest.mark.parametrize("name", BASELINES)
def test_a_class_without_training_cells_and_a_single_class_are_survived(name):
    vectors, labels = clouds()
    some = labels != 1
    found = BASELINES[name](vectors[some], labels[some], vectors, CLASSES, 0)
    assert set(found.argmax(axis=1)) <= {0, 2}
    one = labels == 2
    assert set(BASELINES[name](vectors[one], labels[one], vectors, CLASSES, 0).argmax(axis=1)) == {2}


@pytest.mark.parametrize("name", BASELINES)
def test_a_handful_of_cells_is_enough(name):
    vectors, labels = clouds(each=1)
    found = BASELINES[name](vectors, labels, vectors, CLASSES, 0)
    assert found.shape == (3, CLASSES)
    assert np.isfinite(found).all()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_the_vote_is_the_slow_obvious_one(data):
    k = data.draw(st.integers(1, 9))
    found = data.draw(st.lists(st.integers(0, 3), min_size=k, max_size=k))
    counts = [found.count(c) for c in range(4)]
    most = max(counts)
    winner = next(c for c in found if counts[c] == most)  # ties: the class that comes first, i.e. nearest
    votes = shares(np.array([found]), 4)[0]
    assert votes.argmax() == winner
    np.testing.assert_allclose(votes, np.array(counts) / k, atol=2e-3)


def test_knn_takes_what_is_there():
    vectors, labels = clouds(each=2)
    np.testing.assert_allclose(knn(20)(vectors, labels, vectors[:1], CLASSES, 0), 1 / 3, atol=2e-3)


def test_k_is_chosen_on_the_training_cells_alone():
    """One dimension, every other cell mislabelled: one neighbour is always wrong, many are right."""
    rng = np.random.default_rng(0)
    truth = np.repeat([0, 1], 150).astype(np.int16)
    vectors = (rng.uniform(size=(300, 1)) + 5 * truth[:, None]).astype(np.float32)
    labels = np.where(rng.uniform(size=300) < 0.35, 1 - truth, truth).astype(np.int16)
    chosen = knn_chosen(vectors, labels, vectors, 2, 0).argmax(axis=1)
    assert (chosen == truth).mean() > 0.97 > (knn(1)(vectors, labels, vectors, 2, 0).argmax(axis=1) == truth).mean()


def test_a_chosen_k_is_not_taken_in_by_cells_of_one_group():
    rng = np.random.default_rng(0)
    labels = np.repeat(rng.integers(0, CLASSES, 60), 8).astype(np.int16)
    groups = np.repeat(np.arange(60), 8).astype(np.int32)
    middles = 1.2 * np.eye(CLASSES, 6)[labels[::8]] + rng.normal(size=(60, 6))
    vectors = (middles.repeat(8, axis=0) + 0.15 * rng.normal(size=(480, 6))).astype(np.float32)
    truth = rng.integers(0, CLASSES, 400)
    queries = (1.2 * np.eye(CLASSES, 6)[truth] + rng.normal(size=(400, 6))).astype(np.float32)

    def right(groups):
        return np.mean(knn_chosen(vectors, labels, queries, CLASSES, 0, groups=groups).argmax(axis=1) == truth)

    assert right(groups) > right(None) + 0.05
    assert right(np.zeros(480, dtype=np.int32)) == right(None)
    assert right(np.arange(480, dtype=np.int32)) == right(None)


def test_majority_is_the_training_frequency():
    vectors, _ = clouds(each=2)
    found = majority(vectors, np.array([0, 1, 1, 1, 2, 2], dtype=np.int16), vectors[:2], 4, 0)
    np.testing.assert_allclose(found, [[1 / 6, 1 / 2, 1 / 3, 0]] * 2)


def test_the_probe_is_scikit_learns_with_the_papers_strength():
    linear_model = pytest.importorskip("sklearn.linear_model")
    vectors, labels = clouds(apart=1.5)
    queries, _ = clouds(each=10, seed=3)
    theirs = linear_model.LogisticRegression(C=12 * CLASSES / 100, max_iter=1000).fit(vectors, labels)
    np.testing.assert_allclose(
        linear_probe(vectors, labels, queries, CLASSES, 0), theirs.predict_proba(queries), atol=1e-5
    )


def test_more_dimensions_than_cells_are_turned_away_without_changing_the_answer():
    linear_model = pytest.importorskip("sklearn.linear_model")
    vectors, labels = clouds(each=10, width=200, apart=2.0)
    queries, _ = clouds(each=5, width=200, apart=2.0, seed=1)
    fit, asked = rotated(vectors, queries)
    assert fit.shape == (30, 30)
    np.testing.assert_allclose(asked @ fit.T, queries @ vectors.T, rtol=1e-4, atol=1e-3)
    # Both run until they have settled: the usual end, by the largest slope, depends on the axes.
    model = linear_model.LogisticRegression(C=200 * CLASSES / 100, max_iter=10_000, tol=1e-8)
    turned = model.fit(fit.astype(float), labels).predict_proba(asked.astype(float))
    plain = model.fit(vectors.astype(float), labels).predict_proba(queries.astype(float))
    np.testing.assert_allclose(turned, plain, atol=1e-4)
    found = linear_probe(vectors, labels, queries, CLASSES, 0)
    np.testing.assert_array_equal(found.argmax(axis=1), plain.argmax(axis=1))


def test_without_scikit_learn_a_person_is_told_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    vectors, labels = clouds()
    with pytest.raises(UsageError, match=r"cellvigil\[index\]"):
        linear_probe(vectors, labels, vectors, CLASSES, 0)


def test_components_are_those_of_the_singular_value_decomposition():
    for each, width in ((40, 12), (5, 60)):
        vectors, _ = clouds(each=each, width=width)
        projection = net.components(vectors, 10)
        _, values, axes = np.linalg.svd(vectors - vectors.mean(axis=0), full_matrices=False)
        np.testing.assert_allclose(np.abs(projection.axes.T @ axes[:10].T), np.eye(10), atol=1e-3)
        np.testing.assert_allclose(np.linalg.norm(projection.of(vectors), axis=0), values[:10], rtol=1e-3)
    assert net.components(vectors, 200).axes.shape == (60, 14), "15 cells span 14 dimensions around their mean"


def batch(cells=9, width=6, seed=0):
    rng = np.random.default_rng(seed)
    weights = {name: array.astype(np.float64) for name, array in net.fresh(width, CLASSES, rng).items()}
    return weights, rng.normal(size=(cells, width)), rng.integers(0, CLASSES, cells)


@pytest.mark.parametrize("term", [net.consistency, net.decorrelation, net.dominance])
@pytest.mark.parametrize("cells", [9, 4])
def test_the_slope_of_each_term_is_its_difference_quotient(term, cells):
    rng = np.random.default_rng(1)
    features, image = rng.normal(size=(2, cells, 6))
    _, slope = term(features, image)
    for place in np.ndindex(*image.shape):
        step = np.zeros_like(image)
        step[place] = 1e-6
        quotient = (term(features, image + step)[0] - term(features, image - step)[0]) / 2e-6
        assert slope[place] == pytest.approx(quotient, abs=1e-7)


def test_the_terms_by_hand():
    features = np.array([[3.0, 0.0], [0.0, 2.0]])
    assert net.consistency(features, features * 5)[0] == pytest.approx(0), "length does not count"
    assert net.consistency(features, -features)[0] == pytest.approx(4)
    assert net.dominance(features, features)[0] == pytest.approx(-3 / 5)
    # Covariance of (3, 0), (0, 2): off the diagonal -3, twice, squared, over two dimensions.
    assert net.decorrelation(features, features)[0] == pytest.approx(9)


def test_training_lowers_the_loss_and_a_seed_fixes_it():
    vectors, labels = clouds(scale=0.3)
    weights = net.fresh(12, CLASSES, np.random.default_rng(0))
    before, _ = net.loss_and_slopes(weights, vectors, labels.astype(np.int64))
    first = net.trained(vectors, labels.astype(np.int64), CLASSES, 0)
    after, _ = net.loss_and_slopes(first, vectors, labels.astype(np.int64))
    assert after < 0.7 * before
    again, other = (net.trained(vectors, labels.astype(np.int64), CLASSES, seed) for seed in (0, 1))
    np.testing.assert_array_equal(first["w1"], again["w1"])
    assert np.abs(first["w1"] - other["w1"]).max() > 0.01


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("none", []),
        ("all", list(BASELINES)),
        ("1-NN,Linear-Probe", ["1-NN", "linear probe"]),
        ("nmtune, majority", ["NMTune", "majority"]),
    ],
)
def test_baselines_are_asked_for_by_name(text, names):
    assert list(named(text)) == names


def test_an_unknown_baseline_is_refused_with_the_ones_there_are():
    with pytest.raises(UsageError, match="linear probe, NMTune, majority"):
        named("1-NN,svm")


@pytest.mark.export
@pytest.mark.parametrize("cells", [9, 4])
def test_loss_and_gradients_are_those_of_autograd(cells):
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional

    weights, features, labels = batch(cells)
    found, slopes = net.loss_and_slopes(weights, features, labels, 0.3)
    tensors = {name: torch.tensor(array, requires_grad=True) for name, array in weights.items()}
    f, y = torch.tensor(features), torch.tensor(labels)
    z = functional.relu(f @ tensors["w1"] + tensors["b1"]) @ tensors["w2"] + tensors["b2"]
    loss = functional.cross_entropy(z @ tensors["w3"] + tensors["b3"], y)
    mse = (functional.normalize(f, dim=1) - functional.normalize(z, dim=1)).square().sum(dim=1).mean()
    covariance = torch.cov(z.T)
    cov = (covariance - torch.diag(torch.diagonal(covariance))).square().sum() / z.shape[1]
    values = torch.linalg.svdvals(z)
    loss = loss + 0.3 * (mse + cov - values[0] / values.sum())
    loss.backward()
    assert found == pytest.approx(loss.item(), rel=1e-10)
    for name, tensor in tensors.items():
        np.testing.assert_allclose(slopes[name], tensor.grad.numpy(), atol=1e-9, err_msg=name)


@pytest.mark.export
def test_adam_steps_as_torchs():
    torch = pytest.importorskip("torch")

    rng = np.random.default_rng(0)
    start, slopes = rng.normal(size=(4, 3)), rng.normal(size=(20, 4, 3))
    mine, theirs = start.copy(), torch.tensor(start, requires_grad=True)
    adam, optimiser = Adam({"w": mine}), torch.optim.Adam([theirs], lr=1e-3)
    for slope in slopes:
        adam.step({"w": slope})
        theirs.grad = torch.tensor(slope)
        optimiser.step()
    np.testing.assert_allclose(mine, theirs.detach().numpy(), atol=1e-12)
