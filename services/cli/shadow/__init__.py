"""A filter on trial: `running` runs it beside an installation, `beside` compares it with the one that counts, `command`
is what a person calls.
"""
