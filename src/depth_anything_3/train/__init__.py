"""Training: losses, teacher and pseudo-labels, data, trainer, recipes."""
