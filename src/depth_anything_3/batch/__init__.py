"""Many scenes: one after the other in this process, or over many machines on Ray."""
