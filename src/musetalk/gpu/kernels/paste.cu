// From a decoder's picture to the finished planes of the part of each frame that changes: to the byte what the plain operators
// make of it, which is why the order of the steps is theirs, and no multiplication and addition may become one.

// A frame's region, and where it lies in what is on the device. Laid out as `Pasted` in `kernels.rs`.
struct Region {
    const unsigned char *own;    // [height, width, 3]
    const unsigned char *alpha;  // [height, width]
    // The crop's rows above and below each of the region's, and how far between them; the same for columns.
    const long long *row_first, *row_second;
    const float *row_between;
    const long long *column_first, *column_second;
    const float *column_between;
    unsigned char *planes;  // Y, U and V
    int height, width;      // both even
};

struct Regions {
    Region of[32];
};

// Where a decoder's picture lies: [frames, 3, rows, columns] in numbers. The crop has `before` black rows above it.
struct Strides {
    long long frame, channel, row, column;
    int before, rows;
};

// A number of the picture as a level of 0 to 255, half to even.
template <typename T> __device__ __forceinline__ float level(float x) {
    float unit = rounded<T>(__fadd_rn(rounded<T>(__fmul_rn(x, 0.5f)), 0.5f));
    return rintf(__fmul_rn(fminf(fmaxf(unit, 0.0f), 1.0f), 255.0f));
}

__device__ __forceinline__ float mix(float one, float other, float between) {
    return __fadd_rn(__fmul_rn(__fsub_rn(other, one), between), one);
}

__device__ __forceinline__ unsigned char to_byte(int value) { return static_cast<unsigned char>(min(max(value, 0), 255)); }

// A thread for each square of four pixels, which share a sample of U and V. Grid: squares of the largest region, frames.
template <typename T>
__device__ __forceinline__ void paste_square(const T *picture, const Strides &strides, const Region &region) {
    int columns = region.width / 2;
    int square = blockIdx.x * blockDim.x + threadIdx.x;
    if (square >= region.height / 2 * columns) return;
    int top = square / columns * 2;
    int left = square % columns * 2;
    const T *crop = picture + blockIdx.y * strides.frame;
    int sums[3] = {0, 0, 0};
    for (int y = top; y < top + 2; y++) {
        long long above = region.row_first[y] - strides.before;
        long long below = region.row_second[y] - strides.before;
        float between = region.row_between[y];
        unsigned char luma[2];
        for (int of = 0; of < 2; of++) {
            int x = left + of;
            long long one = region.column_first[x] * strides.column;
            long long other = region.column_second[x] * strides.column;
            float across = region.column_between[x];
            int at = y * region.width + x;
            int alpha = region.alpha[at];
            int mixed[3];
#pragma unroll
            for (int channel = 0; channel < 3; channel++) {
                // Rows that were not decoded are black.
                auto row = [&](long long row) {
                    if (row < 0 || row >= strides.rows) return 0.0f;
                    const T *line = crop + channel * strides.channel + row * strides.row;
                    return mix(level<T>(to_float(line[one])), level<T>(to_float(line[other])), across);
                };
                // Halves up, as in integers.
                int made = static_cast<int>(floorf(__fadd_rn(mix(row(above), row(below), between), 0.5f)));
                int total = made * alpha + region.own[at * 3 + channel] * (255 - alpha) + 128;
                mixed[channel] = ((total >> 8) + total) >> 8;
                sums[channel] += mixed[channel];
            }
            luma[of] = to_byte(((66 * mixed[0] + 129 * mixed[1] + 25 * mixed[2] + 128) >> 8) + 16);
        }
        region.planes[y * region.width + left] = luma[0];
        region.planes[y * region.width + left + 1] = luma[1];
    }
    unsigned char *blue = region.planes + region.height * region.width;
    unsigned char *red = blue + region.height / 2 * columns;
    blue[square] = to_byte(((-38 * sums[0] - 74 * sums[1] + 112 * sums[2] + 512) >> 10) + 128);
    red[square] = to_byte(((112 * sums[0] - 94 * sums[1] - 18 * sums[2] + 512) >> 10) + 128);
}

extern "C" __global__ void __launch_bounds__(256)
    paste(const FLOATS *picture, const __grid_constant__ Strides strides, const __grid_constant__ Regions regions) {
    paste_square(picture, strides, regions.of[blockIdx.y]);
}
