// What all kernels share: the three kinds of floats in memory, which are computed with in 32 bits, and loads of several at once.
//
// Kernels are compiled for one kind at a time: `FLOATS` is float, Half or Brain (bfloat16).
// Nothing is included, since the headers of CUDA are not where the libraries are: conversions are the instructions themselves.

struct Half {
    unsigned short bits;
};

struct Brain {
    unsigned short bits;
};

#ifndef ON_A_CPU
__device__ __forceinline__ float to_float(Half x) {
    float y;
    asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x.bits));
    return y;
}

__device__ __forceinline__ void from_float(Half &y, float x) {
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
}

__device__ __forceinline__ float to_float(Brain x) { return __uint_as_float(static_cast<unsigned>(x.bits) << 16); }

__device__ __forceinline__ void from_float(Brain &y, float x) {
#if __CUDA_ARCH__ >= 800
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
#else
    // To the nearest, halves to the even side; what is not a number stays none.
    unsigned bits = __float_as_uint(x);
    y.bits = x != x ? 0x7fff : static_cast<unsigned short>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
#endif
}
#endif

__device__ __forceinline__ float to_float(float x) { return x; }
__device__ __forceinline__ void from_float(float &y, float x) { y = x; }

// What storing a number as `T` makes of it.
template <typename T> __device__ __forceinline__ float rounded(float x) {
    T stored;
    from_float(stored, x);
    return to_float(stored);
}

// Neighbours in memory that are loaded and stored by one instruction.
template <typename T, int V> struct alignas(sizeof(T) * V) Pack {
    T at[V];
};

template <int V, typename T> __device__ __forceinline__ Pack<T, V> load(const T *from) {
    return *reinterpret_cast<const Pack<T, V> *>(from);
}

template <int V, typename T> __device__ __forceinline__ void store(T *to, const Pack<T, V> &values) {
    *reinterpret_cast<Pack<T, V> *>(to) = values;
}

// How many numbers of a kind have 16 bytes.
template <typename T> struct Widest {
    static constexpr int count = 16 / sizeof(T);
};

// x * sigmoid(x). In 16 bits the quick exponential and division are as good: they err by 1e-6.
template <typename T> __device__ __forceinline__ float silu(float x) { return __fdividef(x, 1.0f + __expf(-x)); }
template <> __device__ __forceinline__ float silu<float>(float x) { return x / (1.0f + expf(-x)); }
