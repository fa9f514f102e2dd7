"""The subcommands of ``rlscape``: the arguments of each, and what it prints."""
