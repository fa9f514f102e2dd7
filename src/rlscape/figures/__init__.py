"""Figures: a module per figure, ``rlscape.figures.<paper>.<stem>``, found through the catalogue.

Each has ``assemble(config) -> frame``, which reads result files, and ``draw(frame) -> Figure``, which sees
nothing but the tidy frame that is saved as CSV beside the figure.
"""
