"""Runs the parts of a measurement one after the other, each within a time of its own, and keeps results.json up to date.

Uses the standard library alone, so that it is there within a moment; each part is a process of its own, which is ended with
all that it started when its time is over."""

import argparse
import contextlib
import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import signal
import subprocess
import sys
import time

import common
import summary

# In this order, whatever order they are asked for in; seconds that each may take at most.
PARTS = {"weights": 60, "engine": 130, "eager": 75, "parity": 90, "server": 240, "compiled": 120}
# A CPU, on which the parts are tried, takes so many times as long.
CPU_TIMES = 3
SHIM_LIMIT = 90
# All of them together, unless said otherwise.
LIMIT = 360
LOOK_EVERY = 0.25
PACKAGES = ("torch", "triton", "diffusers", "transformers", "safetensors", "numpy")


def words(command):
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False).stdout.strip()


def compile_shim(place):
    """What captures CUDA graphs (src/musetalk/gpu/shim.cpp), where the bundle has its source alone."""
    source, library = place.bundle / "gpu" / "shim.cpp", place.bundle / "lib" / "libmouthpiece_cuda.so"
    if library.exists() or not source.exists():
        return {"library": library.exists()}
    torch, packages = common.torch_folder(), common.torch_folder().parent
    places = [os.environ.get("CUDA_HOME", "/usr/local/cuda"), packages / "nvidia" / "cu13", packages / "nvidia" / "cuda_runtime"]
    headers = [pathlib.Path(path) / "include" for path in places if (pathlib.Path(path) / "include/cuda_runtime_api.h").exists()]
    includes = [torch / "include", torch / "include/torch/csrc/api/include", *headers[:1]]
    command = ["g++", "-std=c++17", "-O1", "-shared", "-fPIC", *(word for path in includes for word in ("-I", path)), source,
               "-o", library]
    told = common.run(command, dict(os.environ), place.logs / "shim.err", SHIM_LIMIT)
    return {**told, "library": library.exists()}


def versions():
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def machine(place):
    """What was measured on."""
    gpus = words(["nvidia-smi", "--query-gpu=name,driver_version,memory.total,clocks.max.sm,clocks.max.mem,power.limit",
                  "--format=csv,noheader"])
    processor = [line.partition(":")[2].strip() for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines()
                 if line.startswith("model name")]
    described = place.bundle / "bundle.json"
    shim = compile_shim(place)
    return {
        "bundle": json.loads(described.read_text()) if described.exists() else None, "shim": shim,
        "gpus": (gpus or "").splitlines(),
        "processor": processor[0] if processor else None, "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(), "libc": platform.libc_ver()[1], "versions": versions(),
        "doctor": common.run([place.program, "doctor", "--json"], place.environment(), place.logs / "doctor.err", 30),
    }


class Results:
    """results.json: what an earlier call told of other parts stays."""

    def __init__(self, folder):
        self.path = folder / "results.json"
        self.told = json.loads(self.path.read_text()) if self.path.exists() else {}
        self.told.setdefault("parts", {})

    def write(self):
        new = self.path.with_suffix(".new")
        new.write_text(json.dumps(self.told, indent=1) + "\n")
        new.replace(self.path)


def read_lines(path, part):
    """Takes over what a part has told; its last line may be half written."""
    for line in path.read_text().splitlines() if path.exists() else []:
        with contextlib.suppress(ValueError):
            figure = json.loads(line)
            part["figures"][figure["name"]] = figure["value"]


def run_part(name, limit, given, place, results):
    lines, log = place.work / f"{name}.jsonl", place.logs / f"{name}.log"
    lines.unlink(missing_ok=True)
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    part = results.told["parts"][name] = {"state": "running", "began": now, "limit": round(limit, 1), "figures": {}}
    started = time.monotonic()
    # It shall end by itself, a little before it is ended.
    command = [sys.executable, pathlib.Path(__file__).with_name(f"{name}.py"), "--bundle", place.bundle, "--work", place.work,
               "--device", given.device, "--until", str(started + limit - 1), *(["--small"] if given.small else [])]
    for option in ("at_vae", "at_taesd", "seconds") if name == "server" else ():
        if (value := getattr(given, option)) is not None:
            command += [f"--{option.replace('_', '-')}", str(value)]
    seen = -1
    with log.open("wb") as output:
        process = subprocess.Popen(list(map(str, command)), stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                                   start_new_session=True)
        try:
            while process.poll() is None and time.monotonic() < started + limit:
                time.sleep(LOOK_EVERY)
                size = lines.stat().st_size if lines.exists() else 0
                if size != seen:
                    seen = size
                    read_lines(lines, part)
                    results.write()
        finally:
            # What it started in sessions of their own (`common.run`) ends at its own, shorter limit, or here.
            running = process.poll() is None
            end_tree(process)
            process.wait()
    read_lines(lines, part)
    lines.unlink(missing_ok=True)
    part["seconds"] = round(time.monotonic() - started, 1)
    part["state"] = "ended at its limit" if running else "done" if process.returncode == 0 else "failed"
    if part["state"] == "failed":
        part["error"] = common.tail(log)
    results.write()


def end_tree(process):
    """A part and what it started, also in sessions of their own."""
    for child in descendants(process.pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, 9)
    common.end_group(process)


def descendants(parent):
    children = {}
    for status in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # The name, in brackets, may hold anything.
            pid, after = int(status.parent.name), status.read_text().rpartition(")")[2].split()
            children.setdefault(int(after[1]), []).append(pid)
    found, waiting = [], [parent]
    while waiting:
        mine = children.get(waiting.pop(), [])
        found += mine
        waiting += mine
    return found


def main():
    parser = argparse.ArgumentParser(prog="run.sh", description="Measures mouthpiece on this machine's GPU.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all without any")
    parser.add_argument("--bundle", type=pathlib.Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("results"), help="folder of results.json")
    parser.add_argument("--work", type=pathlib.Path, help="folder of logs and what else is written on the way; else --out")
    parser.add_argument("--limit", type=float, default=LIMIT, help="seconds for all parts together")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="networks with an eighth of the channels: a trial")
    parser.add_argument("--at-vae", metavar="N,N..", help="sessions that speak at once, with the model's own decoder")
    parser.add_argument("--at-taesd", metavar="N,N..", help="the same with a small decoder")
    parser.add_argument("--seconds", type=int, help="that sessions speak for at each step")
    given = parser.parse_args()
    if unknown := set(given.parts) - set(PARTS):
        parser.error(f"no part is called {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    # A part that goes on then is ended on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    started = time.monotonic()
    given.out.mkdir(parents=True, exist_ok=True)
    given.work = given.work or given.out
    place, wanted = common.Place(given), [name for name in PARTS if name in (given.parts or PARTS)]
    results = Results(given.out)
    results.told |= {"small": given.small, "device": given.device, "machine": machine(place)}
    results.write()
    for name in wanted:
        at_most = PARTS[name] * (CPU_TIMES if given.device == "cpu" else 1)
        limit = min(at_most, started + given.limit - time.monotonic())
        if limit < 5:
            results.told["parts"].setdefault(name, {"state": "not begun: no time was left", "figures": {}})
            results.write()
            continue
        print(f"run.sh: {name}, at most {limit:.0f} s", file=sys.stderr)
        run_part(name, limit, given, place, results)
        print(f"run.sh: {name} {results.told['parts'][name]['state']} after {results.told['parts'][name]['seconds']} s",
              file=sys.stderr)
    print(summary.text(results.told))
    failed = [name for name in wanted if results.told["parts"][name]["state"] != "done"]
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
