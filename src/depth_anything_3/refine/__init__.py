"""Geometry made better after the network: matches, cameras."""
