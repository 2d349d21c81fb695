"""Draws from discrete distributions: frequencies are the weights, and what has no weight never comes."""

import pytest
import torch

from generation.draws import draw, random_number


@pytest.mark.parametrize("n", [3, 512, 1300])
def test_frequencies_are_those_of_the_weights(n):
    generator = torch.Generator().manual_seed(0)
    weights = torch.rand(n, generator=generator) ** 4
    weights[::3] = 0
    n_draws = 40_000
    numbers = torch.rand(n_draws, dtype=torch.float64, generator=generator)
    drawn = draw(weights.expand(n_draws, -1), numbers)
    counts = torch.bincount(drawn, minlength=n).double()
    assert counts[weights == 0].sum() == 0
    expected = n_draws * (weights / weights.sum()).double()
    kept = expected > 0
    # Chi-square with as many degrees of freedom: mean k, standard deviation sqrt(2 k).
    k = int(kept.sum()) - 1
    chi_square = float(((counts - expected)[kept] ** 2 / expected[kept]).sum())
    assert chi_square < k + 5 * (2 * k) ** 0.5


@pytest.mark.parametrize("number", [0.0, 0.5, 1 - 2**-53])
def test_no_number_leads_to_a_place_without_weight(number):
    for places in ([0], [700], [2, 511, 512], [1299]):
        weights = torch.zeros(2, 1300)
        weights[:, places] = torch.rand(2, len(places)) + 1e-6
        drawn = draw(weights, torch.full((2,), number, dtype=torch.float64))
        assert set(drawn.tolist()) <= set(places)


def test_a_stream_gives_one_number_after_another():
    first, second = torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
    device = torch.device("cpu")
    alone = [random_number(first, device) for _ in range(3)]
    assert torch.equal(torch.cat(alone), torch.rand(3, dtype=torch.float64, generator=second))
    assert len(set(torch.cat(alone).tolist())) == 3
