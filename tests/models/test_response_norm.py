import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vision_repro.models.layers.response_norm import ResponseNorm


def by_the_formula(maps: Tensor, n: int, alpha: float, beta: float, k: float) -> Tensor:
    """AlexNet, section 3.3, channel by channel; n is odd."""
    normalised = torch.empty_like(maps)
    channels = maps.shape[1]
    for i in range(channels):
        total = torch.zeros_like(maps[:, i])
        for j in range(max(0, i - n // 2), min(channels - 1, i + n // 2) + 1):
            total += maps[:, j] ** 2
        normalised[:, i] = maps[:, i] / (k + alpha * total) ** beta
    return normalised


@pytest.mark.parametrize(
    ("channels", "n", "alpha", "beta", "k"),
    [(12, 5, 1e-4, 0.75, 2.0), (9, 3, 0.1, 0.5, 1.0), (2, 5, 0.3, 0.75, 2.0), (7, 1, 0.2, 1.0, 1.5)],
)
def test_is_the_papers_formula(channels: int, n: int, alpha: float, beta: float, k: float) -> None:
    torch.manual_seed(0)
    maps = 30 * torch.randn(2, channels, 3, 4, dtype=torch.float64)
    found = ResponseNorm(n, alpha, beta, k)(maps)
    torch.testing.assert_close(found, by_the_formula(maps, n, alpha, beta, k), rtol=1e-12, atol=1e-12)


def test_the_defaults_are_the_papers_constants() -> None:
    maps = torch.full((1, 9, 1, 1), 100.0)
    found = ResponseNorm()(maps)[0, :, 0, 0]
    inner, edge = 100 / (2 + 1e-4 * 5 * 100**2) ** 0.75, 100 / (2 + 1e-4 * 3 * 100**2) ** 0.75
    torch.testing.assert_close(found[2:7], torch.full((5,), inner))
    torch.testing.assert_close(found[[0, 8]], torch.full((2,), edge))


def test_torch_divides_alpha_by_n_and_the_paper_does_not() -> None:
    torch.manual_seed(0)
    maps = 100 * torch.randn(2, 16, 5, 5)
    ours = ResponseNorm(5, 1e-4, 0.75, 2.0)(maps)
    torch.testing.assert_close(ours, F.local_response_norm(maps, 5, alpha=5 * 1e-4, beta=0.75, k=2.0))
    assert (ours - F.local_response_norm(maps, 5, alpha=1e-4, beta=0.75, k=2.0)).abs().max() > 1


def test_gradient() -> None:
    torch.manual_seed(0)
    maps = (3 * torch.randn(1, 6, 2, 2, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(ResponseNorm(5, 0.1, 0.75, 2.0), (maps,))


def test_half_precision_is_rounded_once() -> None:
    torch.manual_seed(0)
    maps = (10 * torch.randn(2, 16, 5, 5)).bfloat16()
    found = ResponseNorm()(maps)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, ResponseNorm()(maps.float()).bfloat16())


def test_keeps_the_memory_format() -> None:
    maps = torch.randn(2, 8, 4, 4).to(memory_format=torch.channels_last)
    found = ResponseNorm()(maps)
    assert found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found, ResponseNorm()(maps.contiguous()))
