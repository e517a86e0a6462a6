"""Backfill: released collections and catalogues through the topics that a shop writes.

Data walks: `reading` gives a file's rows with their places, `amazon` and `intentions` make messages of a row, `running`
sends them and remembers in `state` how far Kafka has acknowledged. `command` is what a person calls.
"""
