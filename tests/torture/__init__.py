"""`make torture`: the real server, crashed, starved, attacked, fuzzed: a line a fault, with its figure."""
