import torch

from probe.heads.shared.token_moments import centre_groups, cross_moments


def test_cross_moments_are_covariances_where_every_channel_is_centred():
    groups = torch.randn(4, 3, 5, 11, dtype=torch.float64)
    found = cross_moments(groups, "centred")
    covariance = torch.cov(torch.cat([groups[1, 0], groups[1, 1]], dim=1).T, correction=0)
    torch.testing.assert_close(found[1, 0], covariance[:11, 11:])


def test_what_stands_under_the_mask_moves_neither_means_nor_moments():
    groups, mask = torch.randn(2, 3, 5, 11), torch.arange(5) < torch.tensor([[5], [3]])
    for second_moment in ("as_released", "centred"):
        shorter = centre_groups(groups[1:, :, :3], second_moment)
        found = centre_groups(groups, second_moment, mask)[1:]
        torch.testing.assert_close(found[:, :, :3], shorter)
        assert not found[:, :, 3:].any()
        torch.testing.assert_close(
            cross_moments(groups, second_moment, mask)[1:], cross_moments(groups[1:, :, :3], second_moment)
        )
