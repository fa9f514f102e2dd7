// The elementwise steps of a decoder and their gradients: rlscape.models.functions.
#include "vectors.h"

extern "C" {

// y = x / rms(x) * weight for `rows` rows; `scales` (rows,) are kept for the gradient.
void rms_norm(int64_t rows, int64_t size, const float *x, const float *weight, float epsilon, float *y,
              float *scales) {
    for (int64_t row = 0; row < rows; row++, x += size, y += size)
        scales[row] = normalise<false>(size, x, weight, epsilon, y);
}

// The gradients with respect to x, and, added up in `to_weight`, the weight.
void rms_norm_gradient(int64_t rows, int64_t size, const float *x, const float *weight, const float *scales,
                       const float *gradient, float *to_x, float *to_weight) {
    for (int64_t row = 0; row < rows; row++, x += size, gradient += size, to_x += size) {
        const float scale = scales[row];
#pragma omp simd
        for (int64_t i = 0; i < size; i++) to_x[i] = gradient[i] * weight[i];
        const float along = dot(to_x, x, size) * scale * scale / static_cast<float>(size);
#pragma omp simd
        for (int64_t i = 0; i < size; i++) {
            to_x[i] = (to_x[i] - x[i] * along) * scale;
            to_weight[i] += gradient[i] * x[i] * scale;
        }
    }
}

// Heads (size,) of a token one after the other, tokens `x_token` apart: each normalised, unless `weight` (heads, size)
// is null, and rotated by its token's row of `cosine` and `sine` (tokens, size). y (tokens, heads, size).
void norm_rotate(int64_t tokens, int64_t heads, int64_t size, const float *x, int64_t x_token, const float *weight,
                 const float *cosine, const float *sine, float epsilon, float *y, float *scales) {
    for (int64_t token = 0; token < tokens; token++, x += x_token, cosine += size, sine += size)
        for (int64_t head = 0; head < heads; head++, y += size) {
            if (weight)
                *scales++ = normalise<false>(size, x + head * size, weight + head * size, epsilon, y);
            else
                std::copy_n(x + head * size, size, y);
            rotate<false>(size, cosine, sine, y);
        }
}

// `gradient` (tokens, heads, size); to_x (tokens, heads, size); to_weight (heads, size) is added to.
void norm_rotate_gradient(int64_t tokens, int64_t heads, int64_t size, const float *x, int64_t x_token,
                          const float *weight, const float *cosine, const float *sine, const float *scales,
                          const float *gradient, float *to_x, float *to_weight) {
    const int64_t half = size / 2;
    std::vector<float> turned(size);
    for (int64_t token = 0; token < tokens; token++, x += x_token, cosine += size, sine += size)
        for (int64_t head = 0; head < heads; head++, gradient += size, to_x += size) {
            float *back = weight ? turned.data() : to_x;
#pragma omp simd
            for (int64_t i = 0; i < half; i++) {
                back[i] = gradient[i] * cosine[i] - gradient[i + half] * sine[i];
                back[i + half] = gradient[i + half] * cosine[i + half] - gradient[i] * sine[i + half];
            }
            if (weight)
                rms_norm_gradient(1, size, x + head * size, weight + head * size, scales++, back, to_x,
                                  to_weight + head * size);
        }
}
}
