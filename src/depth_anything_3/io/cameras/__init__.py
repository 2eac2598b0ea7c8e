"""Cameras that were known before: one reader per file format, all giving :class:`~depth_anything_3.types.cameras.Cameras`.

``base`` finds the reader, ``fitting`` brings the cameras to the photos, ``given`` is what commands call.
"""
