"""The web UI: photos or a video in, depth, cameras and 3D out, through the job queue of the server."""
