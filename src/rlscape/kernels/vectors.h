// What the kernels have in common: a matrix product in vectors of the processor's width, and elementary functions.
//
// Whatever a row's neighbours are, its sums are taken in the same order: a row's result does not depend on its batch.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#ifdef __AVX512F__
constexpr int64_t LANES = 16;
#else
constexpr int64_t LANES = 8;
#endif
constexpr int64_t PANEL = 2 * LANES;
constexpr int64_t TILE_ROWS = 6;

typedef float Vector __attribute__((vector_size(LANES * sizeof(float)), aligned(4), may_alias));

inline int64_t padded(int64_t size, int64_t multiple) { return (size + multiple - 1) / multiple * multiple; }

// Grows as needed, keeps its memory from call to call, and starts where a cache line does, as torch's tensors do:
// addresses must not decide about the order of sums.
inline float *scratch(std::vector<float> &memory, int64_t size) {
    constexpr int64_t LINE = 64 / sizeof(float);
    if (static_cast<int64_t>(memory.size()) < size + LINE) memory.resize(size + LINE);
    const int64_t past = reinterpret_cast<uintptr_t>(memory.data()) / sizeof(float) % LINE;
    return memory.data() + (LINE - past) % LINE;
}

// A matrix: element (row, column) is data[row * row_stride + column * column_stride].
struct Matrix {
    const float *data;
    int64_t row_stride, column_stride = 1;
};

template <int ROWS, int VECTORS>
inline void tile(int64_t depth, Matrix left, const float *right, int64_t right_row, float *out, int64_t out_row,
                 bool add) {
    Vector sums[ROWS][VECTORS];
    for (int row = 0; row < ROWS; row++)
        for (int v = 0; v < VECTORS; v++)
            sums[row][v] = add ? *reinterpret_cast<const Vector *>(out + row * out_row + v * LANES) : Vector{};
    for (int64_t k = 0; k < depth; k++) {
        Vector values[VECTORS];
        for (int v = 0; v < VECTORS; v++)
            values[v] = *reinterpret_cast<const Vector *>(right + k * right_row + v * LANES);
        for (int row = 0; row < ROWS; row++) {
            const float factor = left.data[row * left.row_stride + k * left.column_stride];
            for (int v = 0; v < VECTORS; v++) sums[row][v] += factor * values[v];
        }
    }
    for (int row = 0; row < ROWS; row++)
        for (int v = 0; v < VECTORS; v++) *reinterpret_cast<Vector *>(out + row * out_row + v * LANES) = sums[row][v];
}

template <int VECTORS, int ROWS = TILE_ROWS>
inline void tiles(int64_t rows, int64_t depth, Matrix left, const float *right, int64_t right_row, float *out,
                  int64_t out_row, bool add) {
    for (; rows >= ROWS; rows -= ROWS) {
        tile<ROWS, VECTORS>(depth, left, right, right_row, out, out_row, add);
        left.data += ROWS * left.row_stride;
        out += ROWS * out_row;
    }
    if constexpr (ROWS > 1) tiles<VECTORS, ROWS - 1>(rows, depth, left, right, right_row, out, out_row, add);
}

// out (rows, columns) = left (rows, depth) @ right (depth, columns), or += where `add`. The columns are a multiple of
// LANES; of `right`, PANEL columns at a time lie `right_row` apart from row to row, `right_panel` from panel to panel.
inline void product(int64_t rows, int64_t columns, int64_t depth, Matrix left, const float *right, int64_t right_row,
                    int64_t right_panel, float *out, int64_t out_row, bool add = false) {
    for (int64_t column = 0; column < columns; column += PANEL, right += right_panel)
        if (columns - column >= PANEL)
            tiles<2>(rows, depth, left, right, right_row, out + column, out_row, add);
        else
            tiles<1>(rows, depth, left, right, right_row, out + column, out_row, add);
}

// Branch-free, for loops over vectors; within a unit in the last place, at most 1e38, and 0 below -87.
inline float exponential(float argument) {
    const float x = argument < -87.0f ? -87.0f : (argument > 88.0f ? 88.0f : argument);
    const float magic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer, in the low bits
    const float shifted = x * 1.44269504088896341f + magic;
    const float n = shifted - magic;
    const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    int32_t bits;
    std::memcpy(&bits, &shifted, sizeof bits);
    bits = static_cast<int32_t>(static_cast<uint32_t>(bits + 127) << 23);
    float scale;
    std::memcpy(&scale, &bits, sizeof scale);
    return argument < -87.0f ? 0.0f : p * scale;
}

inline float sigmoid(float x) { return 1.0f / (1.0f + exponential(-x)); }

// To the nearest bf16, ties to even, kept in fp32.
inline float to_bf16(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    bits = (bits + 0x7fffu + ((bits >> 16) & 1u)) & 0xffff0000u;
    float rounded;
    std::memcpy(&rounded, &bits, sizeof rounded);
    return x != x ? x : rounded;
}

// What becomes of a value that a model would store: rounded to bf16 if the model is ROUNDED, else unchanged.
template <bool ROUNDED> inline float keep(float x) { return ROUNDED ? to_bf16(x) : x; }

// silu(gate) * up of (gate, up), both (size,).
template <bool ROUNDED>
inline void swiglu(int64_t size, const float *gate, float *y) {
    const float *up = gate + size;
#pragma omp simd
    for (int64_t i = 0; i < size; i++) {
        const float g = keep<ROUNDED>(gate[i]);
        y[i] = keep<ROUNDED>(g * sigmoid(g) * keep<ROUNDED>(up[i]));
    }
}

// The same `y`, and the gradient with respect to (gate, up) from that with respect to y.
inline void swiglu_gradient(int64_t size, const float *gate, const float *gradient, float *y, float *result) {
    const float *up = gate + size;
    float *to_gate = result, *to_up = result + size;
#pragma omp simd
    for (int64_t i = 0; i < size; i++) {
        const float s = sigmoid(gate[i]), silu = gate[i] * s;
        y[i] = silu * up[i];
        to_up[i] = gradient[i] * silu;
        to_gate[i] = gradient[i] * up[i] * (s + silu * (1.0f - s));
    }
}

inline Vector load(const float *x) { return *reinterpret_cast<const Vector *>(x); }

template <int64_t SIZE> struct Lanes {
    typedef float Type __attribute__((vector_size(SIZE * sizeof(float))));
};

// By halves, as in a tree: in order, LANES steps would wait for one another.
template <int64_t SIZE, class Operation>
inline float reduce(typename Lanes<SIZE>::Type x, Operation operation) {
    if constexpr (SIZE == 4) {
        return operation(operation(x[0], x[2]), operation(x[1], x[3]));
    } else {
        typename Lanes<SIZE / 2>::Type low, high;
        std::memcpy(&low, &x, sizeof low);
        std::memcpy(&high, reinterpret_cast<const char *>(&x) + sizeof low, sizeof high);
        return reduce<SIZE / 2>(operation(low, high), operation);
    }
}

inline float sum_of(Vector x) {
    return reduce<LANES>(x, [](auto a, auto b) { return a + b; });
}

inline float greatest_of(Vector x) {
    return reduce<LANES>(x, [](auto a, auto b) { return a > b ? a : b; });
}

inline float dot(const float *left, const float *right, int64_t size) {
    Vector sums{};
    int64_t i = 0;
    for (; i + LANES <= size; i += LANES) sums += load(left + i) * load(right + i);
    float sum = sum_of(sums);
    for (; i < size; i++) sum += left[i] * right[i];
    return sum;
}

// y = x / rms(x) * weight, all (size,); returns 1 / rms(x).
template <bool ROUNDED>
inline float normalise(int64_t size, const float *x, const float *weight, float epsilon, float *y) {
    const float scale = 1.0f / std::sqrt(dot(x, x, size) / static_cast<float>(size) + epsilon);
#pragma omp simd
    for (int64_t i = 0; i < size; i++) y[i] = keep<ROUNDED>(x[i] * scale * weight[i]);
    return scale;
}

// Rotary position embedding of one head (size,) in place, by its position's cosines and signed sines.
template <bool ROUNDED>
inline void rotate(int64_t size, const float *cosine, const float *sine, float *x) {
    const int64_t half = size / 2;
#pragma omp simd
    for (int64_t i = 0; i < half; i++) {
        const float low = x[i], high = x[i + half];
        x[i] = keep<ROUNDED>(low * cosine[i] + high * sine[i]);
        x[i + half] = keep<ROUNDED>(high * cosine[i + half] + low * sine[i + half]);
    }
}

// Whole vectors, up to LANES - 1 numbers more than `size`.
inline void copy_over(const float *from, int64_t size, float *to) {
    for (int64_t i = 0; i < size; i += LANES) *reinterpret_cast<Vector *>(to + i) = load(from + i);
}

// Scores that no exponential sees, from `visible` up to a multiple of LANES, which is returned.
inline int64_t hide(float *scores, int64_t visible) {
    const int64_t size = padded(visible, LANES);
    for (int64_t i = visible; i < size; i++) scores[i] = -INFINITY;
    return size;
}

// The greatest of `size` numbers, a multiple of LANES.
inline float greatest_of(const float *x, int64_t size) {
    Vector greatest = load(x);
    for (int64_t i = LANES; i < size; i += LANES) {
        const Vector other = load(x + i);
        greatest = other > greatest ? other : greatest;
    }
    return greatest_of(greatest);
}

inline float sum_of(const float *x, int64_t size) {
    Vector sums{};
    for (int64_t i = 0; i < size; i += LANES) sums += load(x + i);
    return sum_of(sums);
}

// x[i] = exp(x[i] * scale - top)
inline void exponentials(float *x, int64_t size, float scale, float top) {
#pragma omp simd
    for (int64_t i = 0; i < size; i++) x[i] = exponential(x[i] * scale - top);
}
