"""Time the project against a plain reading of the paper, in one process, and print one table.

    python benchmarks/run.py                    # on the CPU, about 20 minutes on 2 cores
    python benchmarks/run.py --device cuda      # and what only a GPU can show
    python benchmarks/run.py --quick            # small sizes: does it run?

Rounds are interleaved (ours, plain, ours, plain, …). In each both are called three times in a row
and timed the third time, as in a loop of their own; a row gives medians, and the quartiles of the
rounds' ratios.
"""

import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import product
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch.utils.flop_counter import FlopCounterMode

import cases
from cases import Case
from mmqsa.device import choose_device, choose_precision, computing_in, describe
from mmqsa.memory import keep_freed_memory
from publish import publish

OFFICIAL_BUDGET = 7_840_000  # images: the released code's 500 epochs of 15,676


def measure(case: Case, seconds: float, device: torch.device, quick: bool = False) -> dict:
    """Time per image of both: at least three rounds, more while ``seconds`` are not over.

    ``quick`` calls each once: that shows that it runs, and no more.
    """
    rounds, warm_ups = (1, 0) if quick else (3, 2)
    ways = {"ours": case.ours} | ({"plain": case.plain} if case.plain else {})
    counts = {"ours": case.images, "plain": case.plain_images or case.images}
    times: dict[str, list[float]] = {name: [] for name in ways}
    begun = time.perf_counter()
    while len(times["ours"]) < rounds or (
        time.perf_counter() - begun < seconds and len(times["ours"]) < 50
    ):
        for name, way in ways.items():
            keep_freed_memory(name == "ours")  # the project's stages do, a plain program does not
            for _ in range(warm_ups):
                way()
            _wait(device)
            started = time.perf_counter()
            way()
            _wait(device)
            times[name].append((time.perf_counter() - started) / counts[name])
    ours = statistics.median(times["ours"])
    row = {"case": case.name, "ours_ms": 1e3 * ours, "images_per_s": 1 / ours}
    if case.plain:
        ratios = sorted(p / o for p, o in zip(times["plain"], times["ours"], strict=True))
        row["plain_ms"] = 1e3 * statistics.median(times["plain"])
        row["ratio"] = row["plain_ms"] / row["ours_ms"]
        row["ratio_low"], row["ratio_high"] = _quartiles(ratios)
    return row | {"floor": case.floor, "rounds": len(times["ours"])}


def _quartiles(values: list[float]) -> tuple[float, float]:
    low, _, high = statistics.quantiles(values, n=4) if len(values) > 1 else values * 3
    return low, high


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def flop() -> Iterator[dict]:
    """Arithmetic of one optimiser step per image, as PyTorch counts its matrix products."""
    inputs = cases.Inputs(torch.device("cpu"), 1)
    steps = {
        "plain, with the ViT in it": inputs.plain_step(cases.random_vit()),
        "plain, on cached keys": inputs.plain_step(),
        "ours": inputs.step("fp32"),
    }
    for name, step in steps.items():
        with FlopCounterMode(display=False) as counter:
            step()
        yield {"step": name, "GFLOP": counter.get_total_flops() / 1e9}


KINDS: dict[str, dict[str, bool]] = {
    "eager": {},
    "graphs": {"cuda_graphs": True},
    "compile": {"compile": True},
    "both": {"compile": True, "cuda_graphs": True},
}
"""The kinds of training step, the plainest first; a CPU has the first alone."""


def step_name(batch: int, precision: str, kind: str) -> str:
    """What a row of the table of rates is called."""
    return f"batch {batch}, {precision}" + ("" if kind == "eager" else f", {kind}")


def arithmetic(
    device: torch.device,
    steps: Iterable[tuple[int, str, str]],
    seconds: float,
    quick: bool = False,
    most: dict[str, float] | None = None,
) -> Iterator[dict]:
    """A step's achieved rate against a measured matrix product, and the time that it promises.

    ``steps`` are batch, precision and kind. FLOP are those of the matrix products that PyTorch
    counts in one step. ``start`` are the seconds of the first steps, which compile or record.
    ``most`` are products that are measured already, in TFLOP/s by precision.
    """
    most = {} if most is None else most
    for batch, precision, kind in steps:
        if precision not in most:
            large = measure(cases.ceiling(device, precision, quick), seconds, device, quick)
            most[precision] = large["images_per_s"] / 1e12
        torch.compiler.reset()  # or it would compile for any batch, as no training does
        inputs = cases.Inputs(device, batch, **KINDS[kind])
        with FlopCounterMode(display=False) as counter, computing_in(precision, device):
            draws = inputs.model.draw(batch, inputs.generator)
            inputs.model(inputs.features, [cases.HEAD], draws).loss.backward()
        step = inputs.step(precision)
        started = time.perf_counter()
        for _ in range(1 if quick else 5):
            step()
        _wait(device)
        start = time.perf_counter() - started
        in_a_row = 20 if device.type == "cuda" else 1  # as in a training, which waits for none

        def run(step: Callable[[], object] = step, times: int = in_a_row) -> None:
            for _ in range(times):
                step()

        row = measure(Case("", batch * in_a_row, None, run), seconds, device, quick)
        rate = counter.get_total_flops() * row["images_per_s"] / batch / 1e12
        yield {
            "step": step_name(batch, precision, kind),
            "ms": row["ours_ms"] * batch,
            "TFLOP/s": rate,
            "ceiling": most[precision],
            "share": rate / most[precision],
            "official budget, min": OFFICIAL_BUDGET / row["images_per_s"] / 60,
            "start, s": start,
        }


def main(
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    seconds: Annotated[float, typer.Option(help="For each row, if three rounds take less.")] = 15,
    only: Annotated[str, typer.Option(help="Only cases whose name holds this.")] = "",
    quick: Annotated[bool, typer.Option("--quick", help="Small sizes, once: does it run?")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for csv and markdown.")] = None,
) -> None:
    """Print the table of ratios and the table of rates; write them to --out."""
    chosen = choose_device(device)
    # A CPU without bf16 of its own emulates it: a step takes a minute, and nobody would train so.
    precisions = list(dict.fromkeys(["fp32", choose_precision("auto", chosen)]))
    if chosen.type == "cuda":
        precisions = ["fp32", "tf32", "bf16"]
    machine = (
        f"{describe(chosen)}, {torch.get_num_threads()} CPU threads, torch {torch.__version__}"
    )
    print(machine, file=sys.stderr)
    ends = list(dict.fromkeys([precisions[0], precisions[-1]]))
    selected = cases.all_cases(chosen, ends, quick)
    publish("flop", flop(), machine, out)
    rows = (
        measure(case, 0 if quick else seconds, chosen, quick)
        for case in selected
        if only in case.name
    )
    publish("ratios", rows, machine, out)
    if not only and not quick:
        on_gpu = chosen.type == "cuda"
        batches, kinds = ((4, 16, 64), KINDS) if on_gpu else ((16,), ["eager"])
        steps = product(batches, precisions, kinds)
        publish("rates", arithmetic(chosen, steps, seconds), machine, out)


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    app.command()(main)
    app()
