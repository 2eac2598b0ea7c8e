"""The procedural world: scenes, ray casting, cameras and pictures with exact truth."""
