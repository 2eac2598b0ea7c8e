"""Folders of results as pages: which results there are, and a server that shows them. Nothing here runs a network."""
