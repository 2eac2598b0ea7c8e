"""The focal length that pairs of views agree on.

With a focal length that is off, no relative pose explains the matches of a pair as well as one does with the right one;
how much worse it gets is what the pair knows. What lies on a plane, or moved along the optical axis, or was matched in
a dozen places, is explained nearly as well by any, and a prior decides. (That the right focal length makes a
fundamental matrix an essential one, with two equal singular values, says the same for matches without noise; with it,
the fundamental matrix that fits best can be far from any essential one.)

Letters: S candidate focal lengths.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from jaxtyping import Float

from depth_anything_3.refine.features import Features
from depth_anything_3.refine.two_view import costs_of_focal_lengths
from depth_anything_3.refine.view_graph import EPIPOLAR_PX, SAFE_MATCHES, ViewPair

Array = npt.NDArray[np.float64]

_CANDIDATES, _BETWEEN = 21, 10  # poses are found for the first; between them the cost is interpolated
_SIGMAS = 3.0  # of the prior, within which they lie
_ORDINARY = (1.0, 0.4)  # focal lengths of cameras at large: of the longer side, standard deviation of the logarithm
_ASKED = 8  # pairs
_TRUSTED = 4.0  # nats: what a pair says beyond counts as a logarithm, as all of its matches may be wrong together


def common_focal(
    pairs: Sequence[ViewPair],
    features: Sequence[Features],
    intrinsics: Float[np.ndarray, "n 3 3"],
    longer_side: float,
    sigma: float,
) -> float:
    """The factor on all focal lengths that the matches of the pairs and the prior agree on: the mean over what they
    leave open, in logarithms. 1 where nothing connects the views, or nothing moved between them: then there is nothing
    to set against the prior.

    Beside the prior stands that most lenses are ordinary, which matters where the prior is unsure.

    Args:
        pairs: from :func:`~depth_anything_3.refine.view_graph.connect_views`.
        features: keypoints of every view.
        intrinsics: of the prior.
        longer_side: of the images in pixels.
        sigma: standard deviation of the logarithm of the prior's focal lengths.
    """
    if not any(_moved(pair, features) for pair in pairs):
        return 1.0
    middle = float(np.exp(np.log(intrinsics[:, [0, 1], [0, 1]]).mean()))
    ordinary, width = float(np.log(_ORDINARY[0] * longer_side / middle)), _ORDINARY[1]
    together = 1 / np.hypot(1 / sigma, 1 / width)
    centre = ordinary * (together / width) ** 2
    tried = centre + together * np.linspace(-_SIGMAS, _SIGMAS, _CANDIDATES)
    log_factor = np.linspace(tried[0], tried[-1], (_CANDIDATES - 1) * _BETWEEN + 1)
    cost = 0.5 * ((log_factor - centre) / together) ** 2
    for pair in _asked(pairs):
        cost += np.interp(log_factor, tried, _cost(pair, features, intrinsics, np.exp(tried)))
    share = np.exp(cost.min() - cost)
    return float(np.exp((share * log_factor).sum() / share.sum()))


def _asked(pairs: Sequence[ViewPair]) -> list[ViewPair]:
    """All pairs if they are few; otherwise some with many matches, of wide and of narrow baselines."""
    if len(pairs) <= _ASKED:
        return list(pairs)
    ranked = sorted(pairs, key=lambda pair: -pair.support)
    safe = max(sum(pair.support >= SAFE_MATCHES for pair in ranked), _ASKED)
    return [ranked[i] for i in np.linspace(0, safe - 1, _ASKED).astype(int)]


def _moved(pair: ViewPair, features: Sequence[Features]) -> bool:
    """Whether half of the matches are in another place, as far as keypoints tell."""
    first, second = pair.matched(features)
    return len(first) > 0 and bool(np.median(np.linalg.norm(second - first, axis=1)) > EPIPOLAR_PX)


def _cost(pair: ViewPair, features: Sequence[Features], intrinsics: Array, factors: Array) -> Array:
    """(S,) what each factor costs over the best, in nats."""
    i, j = pair.views
    cost = costs_of_focal_lengths(
        *pair.matched(features),
        intrinsics[i],
        intrinsics[j],
        pair.fundamental,
        factors,
        tolerance_px=EPIPOLAR_PX,
    )
    found: Array = _TRUSTED * np.log1p((cost - cost.min()) / _TRUSTED)
    return found
