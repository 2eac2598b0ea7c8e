"""What is measured, one file per mode."""
