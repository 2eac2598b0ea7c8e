"""The networks. Parameter names are exactly those of the published checkpoints."""
