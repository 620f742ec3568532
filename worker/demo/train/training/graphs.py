"""Training steps recorded as CUDA graphs, which a GPU replays without Python in between."""

from collections.abc import Callable

import torch


class Replayed:
    """A step: a function without arguments that reads and writes tensors in place.

    If `enabled`, the first call runs the function three times, all of which take effect, and then
    records it; later calls replay the recording. A function that cannot be recorded is called
    every time.
    """

    pool = None
    """Memory pool that all recordings share. This is safe because only one runs at a time, and
    results are copied out before the next."""
    first = None
    """The first recording. PyTorch frees a pool that no recording uses, and could not use it
    again."""

    def __init__(self, function: Callable[[], torch.Tensor], enabled: bool):
        self.function = function
        self.enabled = enabled
        self.graph: torch.cuda.CUDAGraph | None = None
        self.result: torch.Tensor | None = None

    def __call__(self) -> torch.Tensor:
        if self.graph is not None:
            self.graph.replay()
            return self.result.clone()
        if self.enabled:
            return self._record()
        return self.function()

    def _record(self) -> torch.Tensor:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                value = self.function()
        torch.cuda.current_stream().wait_stream(stream)
        torch.cuda.synchronize()
        value = value.clone()
        if Replayed.pool is None:
            Replayed.pool = torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        try:
            # Thread-local mode: other threads pin memory for new posters during the capture.
            with torch.cuda.graph(graph, Replayed.pool, capture_error_mode="thread_local"):
                self.result = self.function()
            self.graph = graph
            Replayed.first = Replayed.first or graph
        except RuntimeError as error:
            self.enabled = False
            print(f"not recorded, so slower: {error}", flush=True)
            torch.cuda.synchronize()
        return value
