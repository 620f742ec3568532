"""Steps that a GPU replays as one graph, without Python in between."""

from collections.abc import Callable

import torch


class Replayed:
    """A step, a function without arguments that reads and writes tensors in place.

    On a GPU its first call runs it a few times, for real, and then records it; later
    calls replay the record. What cannot be recorded is run as it is.
    """

    pool = None
    """Memory that all records share: only one ever runs at a time, and no result is
    kept past the next."""

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
            # Other threads, which pin memory for new posters, go on meanwhile.
            with torch.cuda.graph(graph, Replayed.pool, capture_error_mode="thread_local"):
                self.result = self.function()
            self.graph = graph
        except RuntimeError as error:
            self.enabled = False
            print(f"not recorded, so slower: {error}", flush=True)
            torch.cuda.synchronize()
        return value
