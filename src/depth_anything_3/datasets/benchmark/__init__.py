"""Data sets that methods are scored on, one file each: loading only."""
