"""The part `eager`: UNet, autoencoder and a small decoder in diffusers, in 16 bits, on the same card in the same run: eager in
both layouts, and the UNet as a CUDA graph. Milliseconds for a frame, medians."""

import statistics
import time

import torch

import common
import networks

BATCHES, SMALL_BATCHES = (1, 8, 16), (1, 2)
WARM_UP, ROUNDS = 3, 10
LAYOUTS = {"nchw": torch.contiguous_format, "channels_last": torch.channels_last}


class Eager:
    def __init__(self, given, place):
        self.given, self.place, self.device = given, place, torch.device(given.device)
        common.use_one_thread(torch, self.device)
        # 16 bits are for GPUs: a CPU takes minutes for them.
        self.dtype = torch.float16 if self.device.type == "cuda" else torch.float32
        self.networks = {
            "unet": networks.unet(place, self.device), "vae": networks.vae(place, self.device),
            "taesd": networks.taesd(place, self.device)}
        for network in self.networks.values():
            network.to(self.dtype)

    def call(self, name, batch, layout):
        """Something that runs a network once, with the inputs where the device has them."""
        network = self.networks[name].to(memory_format=LAYOUTS[layout])
        sample, tokens = (tensor.to(self.device, self.dtype) for tensor in networks.inputs(self.place, batch))
        if name == "unet":
            sample = sample.to(memory_format=LAYOUTS[layout])
            step = torch.zeros((), device=self.device)
            return lambda: network(sample, step, tokens, return_dict=False)[0]
        latent = sample[:, :4].contiguous(memory_format=LAYOUTS[layout])
        return lambda: network.decode(latent, return_dict=False)[0]

    def wait(self):
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def timed(self, call, batch, rounds=ROUNDS):
        times = []
        for _ in range(WARM_UP + (2 if self.given.small else rounds)):
            self.wait()
            started = time.perf_counter()
            call()
            self.wait()
            times.append(time.perf_counter() - started)
        counted = [1000 * seconds / batch for seconds in times[WARM_UP:]]
        return {"ms": round(statistics.median(counted), 4), "least": round(min(counted), 4), "most": round(max(counted), 4)}

    def eager(self, batch, layout):
        with common.Watch() as watch:
            row = {name: self.timed(self.call(name, batch, layout), batch) for name in self.networks}
        return {**row, "gpu": watch.told()}

    def graph(self, batch):
        """The UNet without the time that launching takes."""
        call = self.call("unet", batch, "nchw")
        aside = torch.cuda.Stream()
        with torch.cuda.stream(aside):
            for _ in range(WARM_UP):
                call()
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            call()
        with common.Watch() as watch:
            return {"unet": self.timed(graph.replay, batch), "gpu": watch.told()}


def main():
    given = common.arguments(__doc__).parse_args()
    place = common.Place(given)
    figures = common.Figures(place, "eager")
    torch.backends.cudnn.benchmark = True
    batches = SMALL_BATCHES if given.small else BATCHES
    with torch.inference_mode():
        eager = Eager(given, place)
        for batch in reversed(batches):
            for layout in LAYOUTS:
                figures.attempt(f"{layout} {batch}", lambda: eager.eager(batch, layout))
        if eager.device.type == "cuda":
            figures.attempt("graph 1", lambda: eager.graph(1))


if __name__ == "__main__":
    main()
