// The gated activation of a transformer's feed-forward layer.

// x * normal(x), by the error function. In 16 bits by Abramowitz and Stegun's 7.1.26, which errs by 1.5e-7.
template <typename T> __device__ __forceinline__ float gelu(float x) {
    float z = fabsf(x) * 0.70710678f;
    float t = __fdividef(1.0f, fmaf(0.3275911f, z, 1.0f));
    float sum = fmaf(fmaf(fmaf(fmaf(1.061405429f, t, -1.453152027f), t, 1.421413741f), t, -0.284496736f), t, 0.254829592f);
    // The half of what the error function lacks of 1: the normal distribution's tail.
    float tail = 0.5f * sum * t * __expf(-z * z);
    return x * (x < 0.0f ? tail : 1.0f - tail);
}
template <> __device__ __forceinline__ float gelu<float>(float x) {
    return x * 0.5f * (1.0f + erff(x * 0.70710678118654752f));
}

// [rows, 2, columns] to [rows, columns], in packs: the first times gelu of the second.
template <typename T>
__device__ __forceinline__ void gate(const T *x, T *out, unsigned count, unsigned columns) {
    constexpr int V = Widest<T>::count;
    unsigned at = blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= count) return;
    const T *value = x + (static_cast<size_t>(at) + static_cast<size_t>(at / columns) * columns) * V;
    Pack<T, V> values = load<V>(value);
    Pack<T, V> gates = load<V>(value + static_cast<size_t>(columns) * V);
#pragma unroll
    for (int of = 0; of < V; of++) {
        from_float(values.at[of], to_float(values.at[of]) * gelu<T>(to_float(gates.at[of])));
    }
    store<V>(out + static_cast<size_t>(at) * V, values);
}

extern "C" __global__ void __launch_bounds__(256) geglu(const FLOATS *x, FLOATS *out, unsigned count, unsigned columns) {
    gate(x, out, count, columns);
}
