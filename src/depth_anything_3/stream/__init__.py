"""Long sequences: windows of frames, one world, loops closed."""
