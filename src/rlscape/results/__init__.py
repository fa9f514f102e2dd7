"""Reading results: everything after a run learns from here where a scale's files are.

Each reader takes the configuration and the arms it needs, in the order of the arms and their seeds.
"""
