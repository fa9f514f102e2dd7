// A gated perceptron and its gradients: rlscape.models.decoder.DenseWeights.
//
// A block of rows goes through all products before the next, so that what is between them stays near the processor.
#include "vectors.h"

namespace {

constexpr int64_t BLOCK = 20 * TILE_ROWS;

thread_local std::vector<float> activation_memory, slope_memory, wide_memory;

}  // namespace

extern "C" {

// y (rows, hidden) = down(silu(gate(x)) * up(x)) of x (rows, hidden). The matrices are transposed: gate_up (hidden,
// 2 * size), down (size, hidden). gates (rows, 2 * size) are kept for the gradient. Sizes are multiples of LANES.
void perceptron(int64_t rows, int64_t hidden, int64_t size, const float *x, const float *gate_up, const float *down,
                float *gates, float *y) {
    float *activations = scratch(activation_memory, BLOCK * size), *gate = scratch(wide_memory, BLOCK * 2 * size);
    for (int64_t first = 0; first < rows; first += BLOCK) {
        const int64_t count = std::min(BLOCK, rows - first);
        product(count, 2 * size, hidden, {x + first * hidden, hidden}, gate_up, 2 * size, PANEL, gate, 2 * size);
        for (int64_t row = 0; row < count; row++) swiglu<false>(size, gate + row * 2 * size, activations + row * size);
        std::copy_n(gate, count * 2 * size, gates + first * 2 * size);  // in order, as memory likes it
        product(count, hidden, size, {activations, size}, down, hidden, PANEL, y + first * hidden, hidden);
    }
}

// From the gradient with respect to y those with respect to x and, not transposed and added to what is there, the
// matrices: gate_up (2 * size, hidden), down (hidden, size).
void perceptron_gradient(int64_t rows, int64_t hidden, int64_t size, const float *x, const float *gate_up,
                         const float *down, const float *gates, const float *gradient, float *to_x, float *to_gate_up,
                         float *to_down) {
    float *activations = scratch(activation_memory, BLOCK * size), *slopes = scratch(slope_memory, BLOCK * size);
    float *to_gates = scratch(wide_memory, BLOCK * 2 * size);
    for (int64_t first = 0; first < rows; first += BLOCK) {
        const int64_t count = std::min(BLOCK, rows - first);
        const float *inputs = x + first * hidden, *gate = gates + first * 2 * size, *back = gradient + first * hidden;
        product(count, size, hidden, {back, hidden}, down, size, PANEL, slopes, size);
        for (int64_t row = 0; row < count; row++)
            swiglu_gradient(size, gate + row * 2 * size, slopes + row * size, activations + row * size,
                            to_gates + row * 2 * size);
        product(hidden, size, count, {back, 1, hidden}, activations, size, PANEL, to_down, size, true);
        product(count, hidden, 2 * size, {to_gates, 2 * size}, gate_up, hidden, PANEL, to_x + first * hidden, hidden);
        product(2 * size, hidden, count, {to_gates, 1, 2 * size}, inputs, hidden, PANEL, to_gate_up, hidden, true);
    }
}
}
