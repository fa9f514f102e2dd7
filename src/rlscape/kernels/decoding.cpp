// A dense decoder's forward pass over a cache, as in decoding and prefill: rlscape.rl.decoding.
#include <algorithm>

#include "vectors.h"

namespace {

thread_local std::vector<float> stream_memory, normed_memory, wide_memory, attended_memory, score_memory;

}  // namespace

extern "C" {

// Matrices are stored in panels of PANEL columns: (panels, depth, PANEL), outputs filled up with zeros.
struct LayerWeights {
    const float *qkv, *o, *gate_up, *down;
    const float *qkv_bias, *o_bias;  // (queries + 2 keys,), (hidden,), or null
    const float *attention_norm, *mlp_norm;
    const float *qk_norm;  // (heads + kv_heads, size), or null
    float *cache;          // (slots, pages, kv_heads, floats_of_page)
};

struct DecoderWeights {
    int64_t layers, hidden, intermediate, heads, kv_heads, size;
    int64_t slots, pages;  // pages of a slot, each of PANEL positions
    int64_t vocabulary;
    int64_t rounded;  // whether everything that a bf16 model would store is rounded
    float epsilon;
    const float *embedding, *norm, *cosine, *sine;
    const LayerWeights *layer;
};

int64_t panel() { return PANEL; }
int64_t lanes() { return LANES; }

// One head's keys of a page as columns (size, PANEL), then its values as rows (PANEL, width).
int64_t floats_of_page(int64_t size) { return PANEL * (size + padded(size, LANES)); }
}

namespace {

template <bool ROUNDED>
void normalise_rows(int64_t rows, int64_t size, const float *x, const float *weight, float epsilon, float *y) {
    for (int64_t row = 0; row < rows; row++, x += size, y += size) normalise<ROUNDED>(size, x, weight, epsilon, y);
}

// x (rows, x_row) += bias (size,), unless it is null.
void add_bias(int64_t rows, int64_t size, const float *bias, float *x, int64_t x_row) {
    if (!bias) return;
    for (int64_t row = 0; row < rows; row++, x += x_row)
#pragma omp simd
        for (int64_t i = 0; i < size; i++) x[i] += bias[i];
}

// stream += x (rows, x_row)
template <bool ROUNDED>
void add(int64_t rows, int64_t size, const float *x, int64_t x_row, float *stream) {
    for (int64_t row = 0; row < rows; row++, x += x_row, stream += size)
#pragma omp simd
        for (int64_t i = 0; i < size; i++) stream[i] = keep<ROUNDED>(stream[i] + keep<ROUNDED>(x[i]));
}

// Queries and keys of one token, in place: (heads + kv_heads, size).
template <bool ROUNDED>
void norm_rotate(const DecoderWeights &model, const LayerWeights &layer, int64_t position, float *x) {
    const int64_t size = model.size;
    for (int64_t head = 0; head < model.heads + model.kv_heads; head++, x += size) {
        if (layer.qk_norm) normalise<ROUNDED>(size, x, layer.qk_norm + head * size, model.epsilon, x);
        rotate<ROUNDED>(size, model.cosine + position * size, model.sine + position * size, x);
    }
}

float *page(const DecoderWeights &model, const LayerWeights &layer, int64_t slot, int64_t index, int64_t head) {
    return layer.cache + ((slot * model.pages + index) * model.kv_heads + head) * floats_of_page(model.size);
}

// Rows follow one another in no order that the processor could guess.
void prefetch(const DecoderWeights &model, const LayerWeights &layer, int64_t slot, int64_t position) {
    const float *from = page(model, layer, slot, 0, 0), *to = page(model, layer, slot, position / PANEL + 1, 0);
    for (; from < to; from += 16) __builtin_prefetch(from, 0, 2);
}

// Keys and values of one token: (kv_heads, size) each.
void store(const DecoderWeights &model, const LayerWeights &layer, int64_t slot, int64_t position, const float *keys,
           const float *values) {
    const int64_t size = model.size, at = position % PANEL;
    for (int64_t head = 0; head < model.kv_heads; head++, keys += size, values += size) {
        float *to = page(model, layer, slot, position / PANEL, head);
        for (int64_t i = 0; i < size; i++) to[i * PANEL + at] = keys[i];
        std::copy_n(values, size, to + PANEL * size + at * padded(size, LANES));
    }
}

template <bool ROUNDED>
void attend(const DecoderWeights &model, const LayerWeights &layer, int64_t slot, int64_t position, const float *x,
            float *out) {
    const int64_t size = model.size, width = padded(size, LANES), shared = model.heads / model.kv_heads;
    const int64_t seen = position + 1, pages = padded(seen, PANEL) / PANEL, columns = pages * PANEL;
    const float scale = 1.0f / std::sqrt(static_cast<float>(size));
    float *scores = scratch(score_memory, shared * (columns + width)), *attended = scores + shared * columns;
    for (int64_t head = 0; head < model.kv_heads; head++) {
        const Matrix queries{x + head * shared * size, size};
        for (int64_t index = 0; index < pages; index++)
            product(shared, std::min(PANEL, padded(seen - index * PANEL, LANES)), size, queries,
                    page(model, layer, slot, index, head), PANEL, 0, scores + index * PANEL, columns);
        for (int64_t query = 0; query < shared; query++) {
            float *terms = scores + query * columns;
            const int64_t filled = hide(terms, seen);
            exponentials(terms, filled, scale, greatest_of(terms, filled) * scale);
            const float share = 1.0f / sum_of(terms, filled);
            for (int64_t i = 0; i < filled; i++) terms[i] *= share;
        }
        for (int64_t index = 0; index < pages; index++)
            product(shared, width, std::min(PANEL, seen - index * PANEL), {scores + index * PANEL, columns},
                    page(model, layer, slot, index, head) + PANEL * size, width, PANEL, attended, width, index > 0);
        for (int64_t query = 0; query < shared; query++, out += size)
            for (int64_t i = 0; i < size; i++) out[i] = keep<ROUNDED>(attended[query * width + i]);
    }
}

template <bool ROUNDED>
void forward(const DecoderWeights &model, int64_t rows, const int64_t *ids, const int64_t *positions,
             const int64_t *slots, float *out) {
    const int64_t hidden = model.hidden, size = model.size;
    const int64_t queries = model.heads * size, keys = model.kv_heads * size;
    const int64_t qkv_row = padded(queries + 2 * keys, PANEL), gate_up_row = padded(2 * model.intermediate, PANEL);
    const int64_t hidden_row = padded(hidden, PANEL);
    float *stream = scratch(stream_memory, rows * hidden), *normed = scratch(normed_memory, rows * hidden);
    float *wide = scratch(wide_memory, rows * std::max({qkv_row, gate_up_row, hidden_row}));
    float *attended = scratch(attended_memory, rows * std::max(queries, model.intermediate));
    for (int64_t row = 0; row < rows; row++)
        std::copy_n(model.embedding + ids[row] * hidden, hidden, stream + row * hidden);
    for (const LayerWeights *layer = model.layer; layer < model.layer + model.layers; layer++) {
        normalise_rows<ROUNDED>(rows, hidden, stream, layer->attention_norm, model.epsilon, normed);
        product(rows, qkv_row, hidden, {normed, hidden}, layer->qkv, PANEL, hidden * PANEL, wide, qkv_row);
        add_bias(rows, queries + 2 * keys, layer->qkv_bias, wide, qkv_row);
        for (int64_t row = 0; row < rows; row++) {
            float *x = wide + row * qkv_row;
            for (int64_t i = 0; i < queries + 2 * keys; i++) x[i] = keep<ROUNDED>(x[i]);
            norm_rotate<ROUNDED>(model, *layer, positions[row], x);
            store(model, *layer, slots[row], positions[row], x + queries, x + queries + keys);
        }
        for (int64_t row = 0; row < rows; row++) {
            if (row + 1 < rows) prefetch(model, *layer, slots[row + 1], positions[row + 1]);
            attend<ROUNDED>(model, *layer, slots[row], positions[row], wide + row * qkv_row, attended + row * queries);
        }
        product(rows, hidden_row, queries, {attended, queries}, layer->o, PANEL, queries * PANEL, wide, hidden_row);
        add_bias(rows, hidden, layer->o_bias, wide, hidden_row);
        add<ROUNDED>(rows, hidden, wide, hidden_row, stream);
        normalise_rows<ROUNDED>(rows, hidden, stream, layer->mlp_norm, model.epsilon, normed);
        product(rows, gate_up_row, hidden, {normed, hidden}, layer->gate_up, PANEL, hidden * PANEL, wide, gate_up_row);
        for (int64_t row = 0; row < rows; row++)
            swiglu<ROUNDED>(model.intermediate, wide + row * gate_up_row, attended + row * model.intermediate);
        product(rows, hidden_row, model.intermediate, {attended, model.intermediate}, layer->down, PANEL,
                model.intermediate * PANEL, wide, hidden_row);
        add<ROUNDED>(rows, hidden, wide, hidden_row, stream);
    }
    normalise_rows<ROUNDED>(rows, hidden, stream, model.norm, model.epsilon, out);
}

}  // namespace

extern "C" {

// The head's inputs `out` (rows, hidden) of tokens `ids` at `positions` of `slots`, whose keys and values are written
// first. Rows of one slot must not miss a position before theirs. Returns 1, and does nothing, where there is no such
// token, position or slot.
int64_t decode(const DecoderWeights *model, int64_t rows, const int64_t *ids, const int64_t *positions,
               const int64_t *slots, float *out) {
    const auto within = [](int64_t value, int64_t end) { return 0 <= value && value < end; };
    for (int64_t row = 0; row < rows; row++)
        if (!within(ids[row], model->vocabulary) || !within(positions[row], model->pages * PANEL) ||
            !within(slots[row], model->slots))
            return 1;
    (model->rounded ? forward<true> : forward<false>)(*model, rows, ids, positions, slots, out);
    return 0;
}

// Overwrite the first `length` positions of slots `targets` (n,), each with those of its one of `sources`, in order.
void copy_slots(const DecoderWeights *model, int64_t n, const int64_t *sources, const int64_t *targets,
                int64_t length) {
    const int64_t floats = model->kv_heads * floats_of_page(model->size);
    const int64_t used = padded(length, PANEL) / PANEL * floats, slot = model->pages * floats;
    for (const LayerWeights *layer = model->layer; layer < model->layer + model->layers; layer++)
        for (int64_t i = 0; i < n; i++)
            std::copy_n(layer->cache + sources[i] * slot, used, layer->cache + targets[i] * slot);
}
}
