"""The job queue and the HTTP server on top of it."""
