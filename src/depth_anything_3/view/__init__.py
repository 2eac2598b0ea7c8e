"""A video and its depth in a browser, while both are computed."""
