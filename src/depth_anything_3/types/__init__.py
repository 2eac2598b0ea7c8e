"""Values that cross layers. Import the modules, or the names from :mod:`depth_anything_3`."""
