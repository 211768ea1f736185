"""Timing of things side by side, so that a ratio compares the same moments of the same machine."""

import time


def best_times(functions, rounds=7):
    """Times functions in turn, round after round.

    The machine's speed drifts while a benchmark runs (other processes, clock rates), so each
    function gets its share of every moment, and its best time counts.

    Args:
        functions: {name: function without arguments that returns when its work is done}.
        rounds: how often each is timed, after two calls that are not.

    Returns:
        {name: seconds}.
    """
    for function in functions.values():
        function()
        function()
    times = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            times[name].append(time.perf_counter() - start)
    return {name: min(t) for name, t in times.items()}


def verdict(what, ratio, held_to):
    """Prints one line about a ratio that has to reach a bound; returns whether it does."""
    held = ratio >= held_to
    print(f"  {what:58s} {ratio:6.2f}   held to >= {held_to:g}: {'yes' if held else 'NO'}")
    return held
