"""Data sets by name: one file each, loading only. Import :mod:`depth_anything_3.datasets.base` or one adapter."""
