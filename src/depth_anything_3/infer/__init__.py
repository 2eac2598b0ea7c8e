"""From the caller's images and decisions to a prediction: preprocessing, execution, alignment to given cameras."""
