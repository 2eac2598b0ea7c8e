"""3D Gaussians: pictures of them, and fewer of them."""
