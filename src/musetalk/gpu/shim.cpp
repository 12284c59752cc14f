// What tch does not bind of libtorch's CUDA half: a stream of a thread's own, and CUDA graphs, behind plain C functions.
//
// scripts/setup.sh --cuda compiles this against libtorch's own headers into libmouthpiece_cuda.so beside the CUDA half, and
// `gpu/shim.rs` loads it at run time after that half. It links to nothing by itself: libtorch is in the process already, and
// its symbols are global. Without it everything runs, one launch at a time.
//
// A function that can fail returns 0, or else 1 and a message in `problem`, which has room for `room` bytes. No exception
// leaves this file: what is unwound into Rust ends the process.

#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/headeronly/version.h>

#include <cstdio>
#include <exception>

namespace {

template <typename Work>
int guarded(char *problem, size_t room, Work work) noexcept {
  try {
    work();
    return 0;
  } catch (const c10::Error &error) {
    // Without the native stack trace.
    std::snprintf(problem, room, "%s", error.what_without_backtrace());
  } catch (const std::exception &error) {
    std::snprintf(problem, room, "%s", error.what());
  } catch (...) {
    std::snprintf(problem, room, "an exception of an unknown kind");
  }
  return 1;
}

} // namespace

extern "C" {

// The libtorch that this was compiled against: another one's objects may have another layout.
const char *mouthpiece_torch_version() { return TORCH_VERSION; }

// Has all that libtorch does on this thread and device go to a stream of its own from now on. Captures need one, since the
// default stream cannot be captured.
int mouthpiece_use_own_stream(int device, char *problem, size_t room) {
  return guarded(problem, room, [=] {
    const auto index = static_cast<c10::DeviceIndex>(device);
    // What was begun on the stream before comes first.
    c10::cuda::getCurrentCUDAStream(index).synchronize();
    c10::cuda::setCurrentCUDAStream(c10::cuda::getStreamFromPool(/*isHighPriority=*/true, index));
    // A capture is of the current device's stream.
    c10::cuda::set_device(index);
  });
}

// The `cudaStream_t` that libtorch uses on this thread and device; null is the default stream, and what is given on a fault.
void *mouthpiece_current_stream(int device) {
  void *stream = nullptr;
  guarded(nullptr, 0, [&] { stream = c10::cuda::getCurrentCUDAStream(static_cast<c10::DeviceIndex>(device)).stream(); });
  return stream;
}

// Memory that graphs have in common, as two numbers. Graphs that are replayed one after the other may use the same, but for
// tensors that somebody still holds.
int mouthpiece_new_pool(unsigned long long *pool, char *problem, size_t room) {
  return guarded(problem, room, [=] {
    const auto id = at::cuda::graph_pool_handle();
    pool[0] = id.first;
    pool[1] = id.second;
  });
}

// From here to `mouthpiece_end_capture`, what libtorch does on this thread is written down and not done. Null on a fault.
void *mouthpiece_begin_capture(const unsigned long long *pool, char *problem, size_t room) {
  at::cuda::CUDAGraph *graph = nullptr;
  const int failed = guarded(problem, room, [&] {
    graph = new at::cuda::CUDAGraph();
    // Other threads may use the device meanwhile.
    graph->capture_begin({pool[0], pool[1]}, cudaStreamCaptureModeThreadLocal);
  });
  if (failed) {
    guarded(nullptr, 0, [=] { delete graph; });
    return nullptr;
  }
  return graph;
}

// Has to follow every capture that began, whatever became of it. On a fault the graph is only good for
// `mouthpiece_free_graph`.
int mouthpiece_end_capture(void *graph, char *problem, size_t room) {
  return guarded(problem, room, [=] { static_cast<at::cuda::CUDAGraph *>(graph)->capture_end(); });
}

// Does what was written down, on the thread's current stream.
int mouthpiece_replay(void *graph, char *problem, size_t room) {
  return guarded(problem, room, [=] { static_cast<at::cuda::CUDAGraph *>(graph)->replay(); });
}

void mouthpiece_free_graph(void *graph) {
  guarded(nullptr, 0, [=] { delete static_cast<at::cuda::CUDAGraph *>(graph); });
}

// Gives memory back that libtorch only keeps for later.
int mouthpiece_trim_memory(char *problem, size_t room) {
  return guarded(problem, room, [] { c10::cuda::CUDACachingAllocator::emptyCache(); });
}

} // extern "C"
