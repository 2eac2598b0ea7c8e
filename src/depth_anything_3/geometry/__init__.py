"""Pure functions on arrays: rotations, poses, cameras, rays, alignment, spherical harmonics."""
