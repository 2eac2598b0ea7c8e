"""Cameras that were known before: one reader per file format, behind one function.

``base`` finds the reader, ``fitting`` brings the cameras to the photos, ``given`` is what commands call.
"""
