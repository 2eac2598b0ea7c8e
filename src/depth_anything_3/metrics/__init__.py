"""Pure functions on arrays that say how good a result is: depth, pose, trajectories, point clouds, matches."""
