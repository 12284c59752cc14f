// What is done to a convolution's result, in one pass: its bias, the map around the block and the bias of that one are added,
// and what is negative then may become zero.

// out = a + b + bias + other, of `count` packs whose channels are innermost, `columns` packs a pixel. `b`, `bias` and `other`
// may be null; `out` may be `a` or `b`. ReLU follows if `relu` is not 0.
template <typename T>
__device__ __forceinline__ void add_all(const T *a, const T *b, const T *bias, const T *other, T *out, unsigned count,
                                        unsigned columns, unsigned relu) {
    constexpr int V = Widest<T>::count;
    unsigned first = blockIdx.x * blockDim.x * 4 + threadIdx.x;
#pragma unroll
    for (unsigned turn = 0; turn < 4; turn++) {
        unsigned at = first + turn * blockDim.x;
        if (at >= count) return;
        unsigned channel = at % columns * V;
        size_t place = static_cast<size_t>(at) * V;
        Pack<T, V> values = load<V>(a + place);
        float sums[V];
#pragma unroll
        for (int of = 0; of < V; of++) sums[of] = to_float(values.at[of]);
        const T *rest[3] = {b ? b + place : b, bias ? bias + channel : bias, other ? other + channel : other};
#pragma unroll
        for (int which = 0; which < 3; which++) {
            if (!rest[which]) continue;
            Pack<T, V> next = load<V>(rest[which]);
#pragma unroll
            for (int of = 0; of < V; of++) sums[of] += to_float(next.at[of]);
        }
#pragma unroll
        for (int of = 0; of < V; of++) from_float(values.at[of], relu ? fmaxf(sums[of], 0.0f) : sums[of]);
        store<V>(out + place, values);
    }
}

extern "C" __global__ void __launch_bounds__(256) add(const FLOATS *a, const FLOATS *b, const FLOATS *bias,
                                                      const FLOATS *other, FLOATS *out, unsigned count, unsigned columns,
                                                      unsigned relu) {
    add_all(a, b, bias, other, out, count, columns, relu);
}
