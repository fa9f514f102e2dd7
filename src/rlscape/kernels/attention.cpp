// Attention of packed sequences that share prompts, and its gradient: rlscape.rl.packing.
//
// A segment is a run of rows of which each sees all rows of its prompt, if it has one, and its segment's own up to
// itself. The heads that share keys are rows of one product. Nothing is padded but to the width of a vector.
#include <algorithm>

#include "vectors.h"

namespace {

constexpr int64_t BLOCK = 10 * TILE_ROWS;  // queries whose scores are held at a time

thread_local std::vector<float> key_memory, value_memory, query_memory, score_memory, out_memory;
thread_local std::vector<float> slope_memory, key_slope_memory, value_slope_memory, query_slope_memory;

struct Shape {
    int64_t heads, kv_heads, size;
    int64_t shared() const { return heads / kv_heads; }
    int64_t width() const { return padded(size, LANES); }
};

struct Segment {
    int64_t start, length, seen_start, seen_length;
    int64_t keys() const { return seen_length + length; }
    int64_t row_of_key(int64_t key) const {
        return key < seen_length ? seen_start + key : start + key - seen_length;
    }
};

// Rows (keys, width) of one key head, the rest of the width zero.
void gather(const Segment &segment, Shape shape, const float *from, int64_t from_row, float *to) {
    for (int64_t key = 0; key < segment.keys(); key++, to += shape.width()) {
        std::copy_n(from + segment.row_of_key(key) * from_row, shape.size, to);
        std::fill(to + shape.size, to + shape.width(), 0.0f);
    }
}

// The same as columns (size, columns), the rest of the columns zero, from the columns of all rows. Reads and writes
// beyond the last by less than a vector.
void gather_columns(const Segment &segment, Shape shape, const float *from, int64_t from_row, float *to,
                    int64_t columns) {
    for (int64_t i = 0; i < shape.size; i++, from += from_row, to += columns) {
        copy_over(from + segment.seen_start, segment.seen_length, to);
        copy_over(from + segment.start, segment.length, to + segment.seen_length);
        for (int64_t key = segment.keys(); key < columns; key++) to[key] = 0.0f;
    }
}

// Queries `first` to `last` of a segment's key head, counted over tokens and the heads that share it.
struct Queries {
    const Segment &segment;
    Shape shape;
    int64_t head, first, last;
    int64_t rows() const { return last - first; }
    int64_t token(int64_t row) const { return segment.start + (first + row) / shape.shared(); }
    int64_t query_head(int64_t row) const { return head * shape.shared() + (first + row) % shape.shared(); }
    int64_t visible(int64_t row) const { return segment.seen_length + token(row) - segment.start + 1; }
    // Of (rows, heads) values, and of heads (size,) in rows that lie `stride` apart.
    int64_t at(int64_t row) const { return token(row) * shape.heads + query_head(row); }
    int64_t offset(int64_t row, int64_t stride) const { return token(row) * stride + query_head(row) * shape.size; }
    // As rows (width,), the rest of the width zero.
    void gather(const float *from, int64_t stride, float *to) const {
        for (int64_t row = 0; row < rows(); row++, to += shape.width()) {
            std::copy_n(from + offset(row, stride), shape.size, to);
            std::fill(to + shape.size, to + shape.width(), 0.0f);
        }
    }
    void scatter(const float *from, float *to, int64_t stride) const {
        for (int64_t row = 0; row < rows(); row++)
            std::copy_n(from + row * shape.width(), shape.size, to + offset(row, stride));
    }
};

void scatter_add(const Segment &segment, Shape shape, const float *from, float *to, int64_t to_row) {
    for (int64_t key = 0; key < segment.keys(); key++, from += shape.width()) {
        float *row = to + segment.row_of_key(key) * to_row;
        for (int64_t i = 0; i < shape.size; i++) row[i] += from[i];
    }
}

}  // namespace

extern "C" {

// segments (n, 4): start, length, seen_start, seen_length. Rows of q and v lie q_row and v_row apart; k_columns
// (kv_heads, size, rows), behind which another LANES numbers are read; out (rows, heads, size); tops and shares (rows,
// heads), the greatest score and one over the sum of exponentials, are kept for the gradient.
void attention(int64_t n, const Segment *segments, int64_t total, int64_t heads, int64_t kv_heads, int64_t size,
               const float *q, int64_t q_row, const float *k_columns, const float *v, int64_t v_row, float *out,
               float *tops, float *shares) {
    const Shape shape{heads, kv_heads, size};
    const int64_t width = shape.width();
    const float scale = 1.0f / std::sqrt(static_cast<float>(size));
    for (const Segment *segment = segments; segment < segments + n; segment++) {
        if (!segment->length) continue;
        const int64_t columns = padded(segment->keys(), LANES);
        float *keys = scratch(key_memory, size * columns + LANES), *values = scratch(value_memory, columns * width);
        float *queries = scratch(query_memory, BLOCK * width), *scores = scratch(score_memory, BLOCK * columns);
        float *attended = scratch(out_memory, BLOCK * width);
        for (int64_t head = 0; head < kv_heads; head++) {
            gather_columns(*segment, shape, k_columns + head * size * total, total, keys, columns);
            gather(*segment, shape, v + head * size, v_row, values);
            const int64_t last_query = segment->length * shape.shared();
            for (int64_t first = 0; first < last_query; first += BLOCK) {
                const Queries block{*segment, shape, head, first, std::min(first + BLOCK, last_query)};
                const int64_t rows = block.rows();
                const int64_t most = block.visible(rows - 1);
                block.gather(q, q_row, queries);
                product(rows, padded(most, LANES), size, {queries, width}, keys, columns, PANEL, scores, columns);
                // A pass after the other over all rows: within a row, each would wait for the one before.
                for (int64_t row = 0; row < rows; row++) {
                    float *terms = scores + row * columns;
                    tops[block.at(row)] = greatest_of(terms, hide(terms, block.visible(row))) * scale;
                }
                for (int64_t row = 0; row < rows; row++)
                    exponentials(scores + row * columns, padded(block.visible(row), LANES), scale, tops[block.at(row)]);
                for (int64_t row = 0; row < rows; row++) {
                    float *terms = scores + row * columns;
                    const int64_t filled = padded(block.visible(row), LANES);
                    const float share = shares[block.at(row)] = 1.0f / sum_of(terms, filled);
                    for (int64_t i = 0; i < filled; i++) terms[i] *= share;
                    for (int64_t i = filled; i < most; i++) terms[i] = 0.0f;
                }
                product(rows, width, most, {scores, columns}, values, width, PANEL, attended, width);
                block.scatter(attended, out, heads * size);
            }
        }
    }
}

// The gradients with respect to q, k and v, from that with respect to out; to_k and to_v are zero before.
void attention_gradient(int64_t n, const Segment *segments, int64_t total, int64_t heads, int64_t kv_heads,
                        int64_t size, const float *q, int64_t q_row, const float *k, int64_t k_row,
                        const float *k_columns, const float *v_columns, const float *out, const float *tops,
                        const float *shares, const float *gradient, float *to_q, int64_t to_q_row, float *to_k,
                        int64_t to_k_row, float *to_v, int64_t to_v_row) {
    const Shape shape{heads, kv_heads, size};
    const int64_t width = shape.width();
    const float scale = 1.0f / std::sqrt(static_cast<float>(size));
    for (const Segment *segment = segments; segment < segments + n; segment++) {
        if (!segment->length) continue;
        const int64_t columns = padded(segment->keys(), LANES);
        float *key_columns = scratch(key_memory, (size + width) * columns + LANES);
        float *keys = key_columns + size * columns + LANES;
        float *value_columns = scratch(value_memory, size * columns + LANES);
        float *queries = scratch(query_memory, 2 * BLOCK * width), *outward = queries + BLOCK * width;
        float *terms = scratch(score_memory, BLOCK * columns), *slopes = scratch(slope_memory, BLOCK * columns);
        float *query_slopes = scratch(query_slope_memory, BLOCK * width);
        float *key_slopes = scratch(key_slope_memory, columns * width);
        float *value_slopes = scratch(value_slope_memory, columns * width);
        float along[BLOCK];
        for (int64_t head = 0; head < kv_heads; head++) {
            gather_columns(*segment, shape, k_columns + head * size * total, total, key_columns, columns);
            gather(*segment, shape, k + head * size, k_row, keys);
            gather_columns(*segment, shape, v_columns + head * size * total, total, value_columns, columns);
            std::fill_n(key_slopes, columns * width, 0.0f);
            std::fill_n(value_slopes, columns * width, 0.0f);
            const int64_t last_query = segment->length * shape.shared();
            for (int64_t first = 0; first < last_query; first += BLOCK) {
                const Queries block{*segment, shape, head, first, std::min(first + BLOCK, last_query)};
                const int64_t rows = block.rows();
                const int64_t most = block.visible(rows - 1), seen = padded(most, LANES);
                block.gather(q, q_row, queries);
                block.gather(gradient, heads * size, outward);
                product(rows, seen, size, {queries, width}, key_columns, columns, PANEL, terms, columns);
                product(rows, seen, size, {outward, width}, value_columns, columns, PANEL, slopes, columns);
                for (int64_t row = 0; row < rows; row++) {
                    hide(terms + row * columns, block.visible(row));
                    along[row] = dot(gradient + block.at(row) * size, out + block.at(row) * size, size);
                }
                for (int64_t row = 0; row < rows; row++) {
                    const float top = tops[block.at(row)], share = shares[block.at(row)], mean = along[row];
                    const int64_t filled = padded(block.visible(row), LANES);
                    float *term = terms + row * columns, *slope = slopes + row * columns;
#pragma omp simd
                    for (int64_t i = 0; i < filled; i++) {
                        term[i] = exponential(term[i] * scale - top) * share;
                        slope[i] = term[i] * (slope[i] - mean) * scale;
                    }
                    for (int64_t i = filled; i < most; i++) term[i] = slope[i] = 0.0f;
                }
                product(rows, width, most, {slopes, columns}, keys, width, PANEL, query_slopes, width);
                product(most, width, rows, {slopes, 1, columns}, queries, width, PANEL, key_slopes, width, true);
                product(most, width, rows, {terms, 1, columns}, outward, width, PANEL, value_slopes, width, true);
                block.scatter(query_slopes, to_q, to_q_row);
            }
            scatter_add(*segment, shape, key_slopes, to_k + head * size, to_k_row);
            scatter_add(*segment, shape, value_slopes, to_v + head * size, to_v_row);
        }
    }
}
}
