// Group norm with a bias before it and SiLU behind it, of maps whose channels are innermost in memory.
//
// A map is [samples, pixels, channels]; a group is `channels / groups` neighbouring channels of all pixels of a sample. `shift`,
// one number a channel or null, is added to the map before anything else. Sums are of differences from a group's pivot, its
// first number: numbers far from zero would lose their variance to rounding otherwise.
// No sum depends on which block is quicker: the same input gives the same bits.

extern __shared__ float2 pairs[];

// Calls `use` for each `step`th pixel of those from `first` to `end`. Four loads are under way before the first is used.
template <int V, typename T, typename Use>
__device__ __forceinline__ void each_pixel(const T *map, int first, int end, int step, int channels, Use use) {
    int pixel = first;
    for (; pixel + 3 * step < end; pixel += 4 * step) {
        Pack<T, V> values[4];
#pragma unroll
        for (int at = 0; at < 4; at++) values[at] = load<V>(map + (pixel + at * step) * channels);
#pragma unroll
        for (int at = 0; at < 4; at++) use(pixel + at * step, values[at]);
    }
    for (; pixel < end; pixel += step) use(pixel, load<V>(map + pixel * channels));
}

template <typename T> __device__ __forceinline__ float shift_of(const T *shift, int channel) {
    return shift ? to_float(shift[channel]) : 0.0f;
}

// The pivot of the group of a channel, in a map at the sample's first number.
template <typename T> __device__ __forceinline__ float pivot_of(const T *map, const T *shift, int channel, int size) {
    int first = channel / size * size;
    return to_float(map[first]) + shift_of(shift, first);
}

// The sum over a block, for all of its threads. The block is whole warps.
__device__ __forceinline__ float2 sum_of_block(float2 own) {
    __shared__ float2 of_warps[32];
#pragma unroll
    for (int lane = 16; lane > 0; lane /= 2) {
        own.x += __shfl_xor_sync(0xffffffffu, own.x, lane);
        own.y += __shfl_xor_sync(0xffffffffu, own.y, lane);
    }
    if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = own;
    __syncthreads();
    float2 total = make_float2(0.0f, 0.0f);
    for (int warp = 0; warp < static_cast<int>(blockDim.x / 32); warp++) {
        total.x += of_warps[warp].x;
        total.y += of_warps[warp].y;
    }
    return total;
}

// Mean, less the pivot, and the reciprocal of the deviation, of `count` numbers whose differences sum to `sums.x` and their
// squares to `sums.y`.
__device__ __forceinline__ float2 moments(float2 sums, float count, float eps) {
    float mean = sums.x / count;
    float variance = fmaxf(sums.y / count - mean * mean, 0.0f);
    return make_float2(mean, 1.0f / sqrtf(variance + eps));
}

// `V` channels of a thread: y = x * scale + add, then SiLU if that is wanted, of the pixels from `first` on.
template <int V, bool SILU, typename T>
__device__ __forceinline__ void normalise(const T *map, T *out, int first, int end, int step, int channels,
                                          const float (&scale)[V], const float (&add)[V]) {
    each_pixel<V>(map, first, end, step, channels, [&](int pixel, const Pack<T, V> &values) {
        Pack<T, V> made;
#pragma unroll
        for (int at = 0; at < V; at++) {
            float value = fmaf(to_float(values.at[at]), scale[at], add[at]);
            from_float(made.at[at], SILU ? silu<T>(value) : value);
        }
        store<V>(out + pixel * channels, made);
    });
}

// A block for each group of each sample, from sums to result: for maps small enough to be read twice by one block.
// Grid: groups, samples. `V` divides the channels of a group, and these are at most `V` a thread.
template <int V, typename T>
__device__ __forceinline__ void whole_group(const T *x, const T *shift, const T *weight, const T *bias, T *y, int pixels,
                                            int channels, float eps, int with_silu) {
    int size = channels / gridDim.x;
    int columns = size / V;
    int rows = blockDim.x / columns;
    int row = threadIdx.x / columns;
    int channel = blockIdx.x * size + threadIdx.x % columns * V;
    // The few threads beyond the last row have no pixels.
    int first = row < rows ? row : pixels;
    size_t sample = static_cast<size_t>(blockIdx.y) * pixels * channels;
    float pivot = pivot_of(x + sample, shift, blockIdx.x * size, size);
    float offset[V];
#pragma unroll
    for (int at = 0; at < V; at++) offset[at] = shift_of(shift, channel + at) - pivot;
    const T *map = x + sample + channel;
    float2 own = make_float2(0.0f, 0.0f);
    each_pixel<V>(map, first, pixels, rows, channels, [&](int, const Pack<T, V> &values) {
#pragma unroll
        for (int at = 0; at < V; at++) {
            float value = to_float(values.at[at]) + offset[at];
            own.x += value;
            own.y = fmaf(value, value, own.y);
        }
    });
    float2 found = moments(sum_of_block(own), static_cast<float>(pixels) * size, eps);
    float scale[V], add[V];
#pragma unroll
    for (int at = 0; at < V; at++) {
        scale[at] = found.y * to_float(weight[channel + at]);
        add[at] = fmaf(offset[at] - found.x, scale[at], to_float(bias[channel + at]));
    }
    if (with_silu) {
        normalise<V, true>(map, y + sample + channel, first, pixels, rows, channels, scale, add);
    } else {
        normalise<V, false>(map, y + sample + channel, first, pixels, rows, channels, scale, add);
    }
}

// Of `chunk` pixels, all channels: the sums of each group's differences and of their squares to
// `partial[sample][chunk][group]`. Grid: chunks, samples. Shared: a pair for each channel that a thread has, and one a thread.
// A thread has `Widest` channels, so the block has at least as many threads as there are packs of channels.
template <typename T>
__device__ __forceinline__ void partial_sums(const T *x, const T *shift, float2 *partial, int pixels, int channels,
                                             int groups, int chunk) {
    constexpr int V = Widest<T>::count;
    int size = channels / groups;
    int columns = channels / V;
    int rows = blockDim.x / columns;
    int row = threadIdx.x / columns;
    int channel = threadIdx.x % columns * V;
    const T *map = x + static_cast<size_t>(blockIdx.y) * pixels * channels;
    if (row < rows) {
        float offset[V];
        float2 own[V];
#pragma unroll
        for (int at = 0; at < V; at++) {
            offset[at] = shift_of(shift, channel + at) - pivot_of(map, shift, channel + at, size);
            own[at] = make_float2(0.0f, 0.0f);
        }
        int first = blockIdx.x * chunk;
        int end = min(first + chunk, pixels);
        each_pixel<V>(map + channel, first + row, end, rows, channels, [&](int, const Pack<T, V> &values) {
#pragma unroll
            for (int at = 0; at < V; at++) {
                float value = to_float(values.at[at]) + offset[at];
                own[at].x += value;
                own[at].y = fmaf(value, value, own[at].y);
            }
        });
#pragma unroll
        for (int at = 0; at < V; at++) pairs[row * channels + channel + at] = own[at];
    }
    __syncthreads();
    // As many threads a group as there are share its sums, then one of them has theirs.
    float2 *of_lanes = pairs + rows * channels;
    int lanes = blockDim.x / groups;
    int group = threadIdx.x % groups;
    int lane = threadIdx.x / groups;
    if (lane < lanes) {
        float2 total = make_float2(0.0f, 0.0f);
        for (int at = lane; at < rows * size; at += lanes) {
            float2 next = pairs[at / size * channels + group * size + at % size];
            total.x += next.x;
            total.y += next.y;
        }
        of_lanes[lane * groups + group] = total;
    }
    __syncthreads();
    if (threadIdx.x < groups) {
        float2 total = make_float2(0.0f, 0.0f);
        for (int at = 0; at < lanes; at++) {
            total.x += of_lanes[at * groups + threadIdx.x].x;
            total.y += of_lanes[at * groups + threadIdx.x].y;
        }
        partial[(static_cast<size_t>(blockIdx.y) * gridDim.x + blockIdx.x) * groups + threadIdx.x] = total;
    }
}

// The result, from `partial_sums` of `chunks` chunks, for `span` pixels a block. Grid: spans, samples. Shared: a pair a thread
// and one a group.
template <typename T>
__device__ __forceinline__ void from_partial_sums(const T *x, const T *shift, const T *weight, const T *bias,
                                                  const float2 *partial, T *y, int pixels, int channels, int groups,
                                                  int chunks, int span, float eps, int with_silu) {
    constexpr int V = Widest<T>::count;
    int size = channels / groups;
    size_t sample = static_cast<size_t>(blockIdx.y) * pixels * channels;
    int lanes = blockDim.x / groups;
    int group = threadIdx.x % groups;
    int lane = threadIdx.x / groups;
    float2 *found = pairs + lanes * groups;
    if (lane < lanes) {
        const float2 *own = partial + static_cast<size_t>(blockIdx.y) * chunks * groups + group;
        float2 total = make_float2(0.0f, 0.0f);
        for (int at = lane; at < chunks; at += lanes) {
            total.x += own[at * groups].x;
            total.y += own[at * groups].y;
        }
        pairs[lane * groups + group] = total;
    }
    __syncthreads();
    if (threadIdx.x < groups) {
        float2 total = make_float2(0.0f, 0.0f);
        for (int at = 0; at < lanes; at++) {
            total.x += pairs[at * groups + threadIdx.x].x;
            total.y += pairs[at * groups + threadIdx.x].y;
        }
        found[threadIdx.x] = moments(total, static_cast<float>(pixels) * size, eps);
    }
    __syncthreads();
    int columns = channels / V;
    int rows = blockDim.x / columns;
    int row = threadIdx.x / columns;
    int channel = threadIdx.x % columns * V;
    if (row >= rows) return;
    float scale[V], add[V];
#pragma unroll
    for (int at = 0; at < V; at++) {
        float2 of_group = found[(channel + at) / size];
        float middle = pivot_of(x + sample, shift, channel + at, size) + of_group.x;
        scale[at] = of_group.y * to_float(weight[channel + at]);
        add[at] = fmaf(shift_of(shift, channel + at) - middle, scale[at], to_float(bias[channel + at]));
    }
    int first = blockIdx.x * span;
    int end = min(first + span, pixels);
    const T *map = x + sample + channel;
    T *out = y + sample + channel;
    if (with_silu) {
        normalise<V, true>(map, out, first + row, end, rows, channels, scale, add);
    } else {
        normalise<V, false>(map, out, first + row, end, rows, channels, scale, add);
    }
}

#define WHOLE_GROUP(V)                                                                                                   \
    extern "C" __global__ void __launch_bounds__(512)                                                                    \
        group_norm_whole_##V(const FLOATS *x, const FLOATS *shift, const FLOATS *weight, const FLOATS *bias, FLOATS *y,  \
                             int pixels, int channels, float eps, int with_silu) {                                       \
        whole_group<V>(x, shift, weight, bias, y, pixels, channels, eps, with_silu);                                     \
    }
WHOLE_GROUP(1)
WHOLE_GROUP(2)
WHOLE_GROUP(4)

extern "C" __global__ void __launch_bounds__(640)
    group_norm_sums(const FLOATS *x, const FLOATS *shift, float2 *partial, int pixels, int channels, int groups, int chunk) {
    partial_sums(x, shift, partial, pixels, channels, groups, chunk);
}

extern "C" __global__ void __launch_bounds__(640)
    group_norm_apply(const FLOATS *x, const FLOATS *shift, const FLOATS *weight, const FLOATS *bias, const float2 *partial,
                     FLOATS *y, int pixels, int channels, int groups, int chunks, int span, float eps, int with_silu) {
    from_partial_sums(x, shift, weight, bias, partial, y, pixels, channels, groups, chunks, span, eps, with_silu);
}
