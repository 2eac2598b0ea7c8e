"""Camera encoder: known cameras to the tokens that condition the network on them."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from depth_anything_3.geometry.encoding import encode_cameras
from depth_anything_3.model.dinov2.layers import Block, Mlp


class _PoseBranch(Mlp):
    def __init__(self, dim_out: int) -> None:
        nn.Module.__init__(self)
        self.fc1 = nn.Linear(9, dim_out // 2)
        self.fc2 = nn.Linear(dim_out // 2, dim_out)


class CameraEnc(nn.Module):
    """One token per view from its pose and intrinsics; the views of a scene attend to each other.

    Args:
        dim_out: channels of the tokens, those of the backbone.
        trunk_depth, num_heads: size of the small transformer over the views.
    """

    def __init__(self, dim_out: int = 1024, trunk_depth: int = 4, num_heads: int = 16) -> None:
        super().__init__()
        self.pose_branch = _PoseBranch(dim_out)
        self.token_norm = nn.LayerNorm(dim_out, eps=1e-5)
        self.trunk = nn.Sequential(
            *(Block(dim_out, num_heads, norm_eps=1e-5, scale_init=0.01) for _ in range(trunk_depth))
        )
        self.trunk_norm = nn.LayerNorm(dim_out, eps=1e-5)

    def forward(
        self,
        extrinsics: Float[Tensor, "B N _ 4"],
        intrinsics: Float[Tensor, "B N 3 3"],
        image_hw: tuple[int, int],
    ) -> Float[Tensor, "B N C"]:
        """Tokens for world-to-camera extrinsics (normalised to the first view) and pixel intrinsics."""
        encoding = encode_cameras(extrinsics, intrinsics, image_hw)
        return self.trunk_norm(self.trunk(self.token_norm(self.pose_branch(encoding))))
