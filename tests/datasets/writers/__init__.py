"""Writers of small data sets in the published layouts.

They know the layouts and one exactly known world, and share no code with the adapters: a mistake would have to be
made twice, in two ways, to go unnoticed.
"""
