"""The stage that profiles what is slowest compared with the ceiling of the GPU."""

from __future__ import annotations

from collections.abc import Callable

from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from bench.acceptance.context import Context, Values
from bench.acceptance.sampling import run
from bench.acceptance.training import our_step
from bigr.sampling.sampler import Sampler

SHARES = {
    "sampling_l_8": "share_of_floor",
    "sampling_l_64": "share_of_floor",
    "training_l": "share_of_product",
    "training_l_compiled": "share_of_product",
}
"""The stages that can be profiled, and the value that says how far they are from the ceiling."""
GOALS = {"sampling_l_8": 0.25, "sampling_l_64": 0.5, "training_l": 0.5, "training_l_compiled": 0.5}
"""The shares that were aimed at; the stage that reaches the least part of its goal is profiled."""
NUM_ROWS = 14
NUM_ITERATIONS = 2
"""Iterations of sampling that are profiled; the records of more would take long to evaluate."""


def slowest(context: Context) -> Values:
    """Return the operations of the stage that misses its goal by most, and their shares of time.

    Raises:
        ValueError: if none of the stages has a result.
    """
    found = {
        stage: context.results[stage][key] / GOALS[stage]
        for stage, key in SHARES.items()
        if key in context.results.get(stage, {})
    }
    if not found:
        raise ValueError(f"none of the stages {', '.join(SHARES)} has a result.")
    stage = min(found, key=found.__getitem__)
    function = _workload(context, stage)
    function()
    context.synchronize()
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * context.is_cuda
    with profile(activities=activities, acc_events=True) as profiler:
        function()
        context.synchronize()
    on_device = DeviceType.CUDA if context.is_cuda else DeviceType.CPU
    times: dict[str, tuple[float, int]] = {}
    for event in profiler.key_averages():
        taken = event.self_device_time_total if context.is_cuda else event.self_cpu_time_total
        if event.device_type == on_device and taken > 0:
            times[event.key] = (taken, event.count)
    total = sum(taken for taken, _ in times.values())
    spans = [event.time_range for event in profiler.events()]
    whole = max(span.end for span in spans) - min(span.start for span in spans)
    values: Values = {"stage": stage, "busy": total / whole, "milliseconds": whole / 1e3}
    for name in sorted(times, key=lambda name: -times[name][0])[:NUM_ROWS]:
        taken, count = times[name]
        values[name[:90]] = f"{taken / total:.1%}, {taken / 1e3:.3g} ms, {count} calls"
    return values


def _workload(context: Context, stage: str) -> Callable[[], object]:
    """Return a training step, or the first iterations of sampling, as the stage has timed them."""
    config, batch = context.config("l"), int(context.results[stage]["batch"])
    if stage.startswith("training"):
        return our_step(context, config, batch, "compiled" if "compiled" in stage else "eager")
    model, sampler = context.model(config), Sampler(context.sampler())
    return lambda: run(sampler, model, batch, last=NUM_ITERATIONS)
