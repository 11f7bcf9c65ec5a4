import pytest

from sidecar.engines.prices.estimator import LARGEST_WINDOW, Estimator


def test_before_anything_is_learned_a_token_is_four_bytes() -> None:
    estimator = Estimator()
    assert estimator.request("m", 4000) == 1000
    assert estimator.content("m", 401) == 101
    assert estimator.body("m", 640, streams=True) == 10
    assert estimator.body("m", 640, streams=False) == 160
    assert (estimator.request("m", 0), estimator.content("m", 0)) == (0, 0)


def test_what_a_token_weighs_is_learned_by_model() -> None:
    estimator = Estimator()
    for _ in range(200):
        estimator.learn_request("m", 60_000, 10_000)
        estimator.learn_answer("m", 3000, 100_000, 1000, streams=True)
    assert estimator.request("m", 6000) == pytest.approx(1000, abs=3)
    assert estimator.content("m", 300) == pytest.approx(100, abs=2)
    assert estimator.body("m", 1000, streams=True) == pytest.approx(10, abs=1)
    assert estimator.body("m", 400, streams=False) == 100, "streams say nothing about whole bodies"
    assert estimator.request("other", 6000) == 1500


def test_hidden_reasoning_weighs_in() -> None:
    estimator = Estimator()
    for _ in range(200):
        estimator.learn_answer("thinker", 400, 400, 2000, streams=False)
    assert estimator.content("thinker", 400) == pytest.approx(2000, rel=0.01)


def test_one_odd_call_does_not_turn_everything_over() -> None:
    estimator = Estimator()
    for _ in range(100):
        estimator.learn_request("m", 40_000, 10_000)
    estimator.learn_request("m", 5_000_000, 1000)
    estimator.learn_request("m", 10, 10**9)
    estimator.learn_request("m", 1000, 0)
    estimator.learn_request("m", 1000, -5)
    estimator.learn_request("m", 1000, 10**400)
    assert estimator.request("m", 4000) == 1000


def test_a_picture_in_the_request_ends_at_the_context_window() -> None:
    estimator = Estimator()
    assert estimator.request("m", 20 << 20, window=200_000) == 200_000
    assert estimator.request("m", 20 << 20) == LARGEST_WINDOW


def test_the_number_of_models_is_bounded_and_the_oldest_goes_first() -> None:
    estimator = Estimator(most_models=2)
    for model in ("a", "b", "c"):
        for _ in range(100):
            estimator.learn_request(model, 8000, 1000)
    assert [estimator.request(model, 8000) for model in ("a", "b", "c")] == [
        2000,
        pytest.approx(1000, abs=15),
        pytest.approx(1000, abs=15),
    ]
