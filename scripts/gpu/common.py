"""What the parts of a run share: where things lie, how a program is run within a time, what the GPU did meanwhile, and how a
figure is told. Uses the standard library alone."""

import argparse
import contextlib
import importlib.util
import json
import os
import pathlib
import signal
import statistics
import subprocess
import threading
import time

# Asked of nvidia-smi while something is measured.
WATCHED = ("clocks.sm", "clocks.mem", "utilization.gpu", "power.draw", "temperature.gpu", "memory.used")
WATCH_EVERY_MS = 250

MODEL, SMALL_DECODER = "random-musetalk", "random-taesd"
# By what draws the mouth: the model's own decoder, or a small one that the avatar has chosen.
AVATARS = {"vae": "random-vae", "taesd": "random-taesd"}


def arguments(description):
    """Those of every part. `--until` is a time of `time.monotonic()`, which all processes of a machine share."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--bundle", type=pathlib.Path, required=True)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--until", type=float, default=float("inf"))
    return parser


class Place:
    """The folders of a run."""

    def __init__(self, given):
        self.bundle, self.work = given.bundle.resolve(), given.work.resolve()
        self.home = self.bundle / "home"
        self.models = self.home / "models"
        self.model = self.models / MODEL
        self.logs = self.work / "logs"
        self.logs.mkdir(parents=True, exist_ok=True)
        self.program = self.bundle / "bin" / "mouthpiece"

    def environment(self, changes=None):
        """For our program: libraries and GStreamer's plugins of the bundle, libtorch of this Python's PyTorch, nothing of
        what else the machine may have."""
        bundle = self.bundle
        kept = {name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR", "CUDA_VISIBLE_DEVICES") if name in os.environ}
        machine = os.environ.get("PATH", "/usr/local/bin:/usr/bin:/bin")
        # What was there goes last: NVIDIA's driver may be found by it alone.
        libraries = [str(bundle / "lib"), str(torch_folder() / "lib")] + [
            path for path in os.environ.get("LD_LIBRARY_PATH", "").split(":") if path]
        return {
            "HOME": str(self.work), "LANG": "C.UTF-8", **kept,
            "PATH": f"{bundle / 'bin'}:{machine}",
            "LD_LIBRARY_PATH": ":".join(libraries),
            "MOUTHPIECE_HOME": str(self.home),
            "GST_PLUGIN_SYSTEM_PATH_1_0": str(bundle / "plugins"),
            "GST_PLUGIN_PATH_1_0": "",
            "GST_PLUGIN_SCANNER_1_0": str(bundle / "bin" / "gst-plugin-scanner"),
            "GST_REGISTRY_1_0": str(self.work / "gstreamer-registry.bin"),
            "GIO_MODULE_DIR": str(bundle / "no-modules"),
            # The folder that holds `espeak-ng-data`.
            "ESPEAK_DATA_PATH": str(bundle),
            # libgomp and glibc read these before the program can say so itself.
            "OMP_WAIT_POLICY": "passive", "MALLOC_ARENA_MAX": "2",
            **(changes or {}),
        }


def use_one_thread(torch, device):
    """On a CPU, as our program does: threads that wait for one another are slow on a machine that has more to do."""
    if device.type == "cpu":
        torch.set_num_threads(1)


def torch_folder():
    """The folder of this Python's PyTorch, without the seconds that importing it takes."""
    return pathlib.Path(importlib.util.find_spec("torch").submodule_search_locations[0])


class Figures:
    """Where a part tells what it measured: a line of JSON each, read by `parts.py` while the part goes on."""

    def __init__(self, place, part):
        self.file = (place.work / f"{part}.jsonl").open("a", encoding="utf-8")

    def tell(self, name, value):
        self.file.write(json.dumps({"name": name, "value": value}) + "\n")
        self.file.flush()

    def attempt(self, name, measure):
        """Tells what `measure` gives, or the error that ended it; what comes after it is measured all the same."""
        started = time.monotonic()
        try:
            value = measure()
        except Exception as error:  # noqa: BLE001: a figure that fails is told as such, whatever it failed of
            value = {"error": f"{type(error).__name__}: {error}"[:2000]}
        value["seconds"] = round(time.monotonic() - started, 2)
        self.tell(name, value)
        return value


class Watch:
    """What the GPU did from here to there, sampled by nvidia-smi; nothing on a machine without one."""

    def __enter__(self):
        self.samples, self.process = [], None
        query = ["nvidia-smi", f"--query-gpu={','.join(WATCHED)}", "--format=csv,noheader,nounits", "-i", "0"]
        with contextlib.suppress(OSError):
            self.process = subprocess.Popen(
                [*query, f"--loop-ms={WATCH_EVERY_MS}"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            self.reader = threading.Thread(target=self._read, daemon=True)
            self.reader.start()
        return self

    def _read(self):
        for line in self.process.stdout:
            words = line.split(",")
            if len(words) == len(WATCHED):
                self.samples.append([number(word) for word in words])

    def __exit__(self, *_):
        if self.process:
            self.process.kill()
            self.process.wait()
            self.reader.join(timeout=2)

    def told(self):
        """Least, middle and most of each; all of them while the work went on."""
        if not self.samples:
            return None
        told = {}
        for name, column in zip(WATCHED, zip(*self.samples)):
            known = [value for value in column if value is not None]
            told[name] = [min(known), statistics.median(known), max(known)] if known else None
        return told


def number(word):
    """What nvidia-smi says of a card; nothing for `[N/A]`."""
    try:
        return float(word)
    except ValueError:
        return None


def run(command, environment, log, limit):
    """Runs a program that prints JSON; ends it and all that it started at the limit. What it wrote to stderr goes to `log`.

    Gives its JSON, or what went wrong, and what the GPU did meanwhile.
    """
    told = {"command": " ".join(map(str, command))}
    started = time.monotonic()
    with log.open("wb") as errors, Watch() as watch:
        process = subprocess.Popen(
            list(map(str, command)), env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors,
            start_new_session=True)
        try:
            printed, _ = process.communicate(timeout=max(limit, 1))
        except subprocess.TimeoutExpired:
            end_group(process)
            printed, _ = process.communicate()
            told["error"] = f"ended after {limit:.0f} s"
    told["took"] = round(time.monotonic() - started, 2)
    told["gpu"] = watch.told()
    try:
        told["printed"] = json.loads(printed)
    except ValueError:
        if printed.strip():
            told["printed"] = printed.decode(errors="replace")[-2000:]
    if process.returncode != 0 and "error" not in told:
        told["error"] = f"exit status {process.returncode}: {tail(log)}"
    return told


def end_group(process):
    """Ends a process that leads a session of its own, and all that it started there."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        process.kill()


def tail(path, characters=1500):
    return path.read_text(errors="replace")[-characters:].strip() if path.exists() else ""


def left(given, at_most):
    """Seconds for the next thing, of those that its part still has; an error if that is none."""
    seconds = min(given.until - time.monotonic(), at_most)
    if seconds < 2:
        raise TimeoutError("the part's time was over")
    return seconds
