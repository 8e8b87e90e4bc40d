// What the CUDA backend computes beside matrix products, one kernel an operation, as model/src/kernels does on the CPU:
// the same formulas, in float, sums in a fixed order that depends on sizes alone, so that two runs agree bit by bit.
//
// One-dimensional kernels take blocks of 256 threads, one thread a value. Row kernels give each row a warp of 32 threads.

typedef unsigned long long count_t;
typedef unsigned char byte;
typedef unsigned short index_t;

#define KERNEL extern "C" __global__ void __launch_bounds__(256)
#define EACH(i, count)                                              \
    const count_t i = blockIdx.x * (count_t)blockDim.x + threadIdx.x; \
    if (i >= (count)) return;
// The row of a warp, and the thread's place in it. All threads of a warp return together.
#define EACH_ROW(row, lane, rows)                                                    \
    const count_t row = (blockIdx.x * (count_t)blockDim.x + threadIdx.x) / 32;        \
    const unsigned lane = threadIdx.x % 32;                                          \
    if (row >= (rows)) return;

__device__ float warp_sum(float value) {
    for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(0xffffffffu, value, step);
    return value;
}

__device__ float warp_max(float value) {
    for (int step = 16; step > 0; step /= 2) value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, step));
    return value;
}

KERNEL fill(float *into, float value, count_t count) {
    EACH(i, count)
    into[i] = value;
}

KERNEL add(float *into, const float *values, count_t count) {
    EACH(i, count)
    into[i] += values[i];
}

// c (rows, columns) = bias for each row.
KERNEL fill_bias(float *c, const float *bias, unsigned columns, count_t count) {
    EACH(i, count)
    c[i] = bias[i % columns];
}

KERNEL fill_bias_and_residual(float *c, const float *bias, const float *residual, unsigned columns, count_t count) {
    EACH(i, count)
    c[i] = residual[i] + bias[i % columns];
}

// Bytes, the channel last, to normalised floats.
KERNEL normalise(const byte *bytes, float *out, float factor_0, float factor_1, float factor_2, float offset_0,
                 float offset_1, float offset_2, count_t count) {
    EACH(i, count)
    const unsigned channel = i % 3;
    const float factor = channel == 0 ? factor_0 : channel == 1 ? factor_1 : factor_2;
    const float offset = channel == 0 ? offset_0 : channel == 1 ? offset_1 : offset_2;
    out[i] = (float)bytes[i] * factor + offset;
}

// The exact GELU, x times the normal distribution function.
KERNEL gelu(const float *x, float *y, count_t count) {
    EACH(i, count)
    y[i] = x[i] * normcdff(x[i]);
}

// Turns the gradient of y into that of x, in place.
KERNEL gelu_backward(const float *x, float *gradient, count_t count) {
    EACH(i, count)
    const float density = 0.39894228f * expf(-0.5f * x[i] * x[i]);
    gradient[i] *= normcdff(x[i]) + x[i] * density;
}

// y = (x - mean) / sqrt(variance + 1e-6) * weight + bias, and (rows, 2) of mean and reciprocal deviation.
KERNEL layer_norm(const float *x, const float *weight, const float *bias, float *y, float *statistics, unsigned width,
                  count_t rows) {
    EACH_ROW(row, lane, rows)
    x += row * width;
    y += row * width;
    float sum = 0;
    for (unsigned i = lane; i < width; i += 32) sum += x[i];
    const float mean = warp_sum(sum) / width;
    float squares = 0;
    for (unsigned i = lane; i < width; i += 32) squares += (x[i] - mean) * (x[i] - mean);
    const float scale = 1.0f / sqrtf(warp_sum(squares) / width + 1e-6f);
    for (unsigned i = lane; i < width; i += 32) y[i] = (x[i] - mean) * scale * weight[i] + bias[i];
    if (lane == 0) {
        statistics[2 * row] = mean;
        statistics[2 * row + 1] = scale;
    }
}

KERNEL layer_norm_backward(const float *x, const float *weight, const float *statistics, const float *dy, float *dx,
                           unsigned accumulate, unsigned width, count_t rows) {
    EACH_ROW(row, lane, rows)
    x += row * width;
    dy += row * width;
    dx += row * width;
    const float mean = statistics[2 * row], scale = statistics[2 * row + 1];
    float gradients = 0, products = 0;
    for (unsigned i = lane; i < width; i += 32) {
        const float gradient = dy[i] * weight[i];
        gradients += gradient;
        products += gradient * ((x[i] - mean) * scale);
    }
    const float gradient_mean = warp_sum(gradients) / width, product_mean = warp_sum(products) / width;
    for (unsigned i = lane; i < width; i += 32) {
        const float normal = (x[i] - mean) * scale;
        const float gradient = (dy[i] * weight[i] - gradient_mean - normal * product_mean) * scale;
        dx[i] = accumulate ? dx[i] + gradient : gradient;
    }
}

// Adds up what the 8 threads of a column have, in their order; the first of them has the sum.
__device__ float column_sum(float value) {
    __shared__ float sums[8][32];
    sums[threadIdx.y][threadIdx.x] = value;
    __syncthreads();
    float sum = 0;
    if (threadIdx.y == 0)
        for (int i = 0; i < 8; i++) sum += sums[i][threadIdx.x];
    __syncthreads();
    return sum;
}

// Sums of columns over `rows_per_chunk` rows that lie `row_stride` values apart: partial (chunks, width). Blocks of 32 x 8
// threads; the first axis of the grid goes over columns, the second over chunks.
KERNEL sum_rows(const float *values, float *partial, unsigned width, count_t row_stride, unsigned rows_per_chunk,
                count_t rows) {
    const unsigned column = blockIdx.x * 32 + threadIdx.x;
    const count_t start = blockIdx.y * (count_t)rows_per_chunk;
    const count_t end = start + rows_per_chunk < rows ? start + rows_per_chunk : rows;
    float sum = 0;
    if (column < width)
        for (count_t row = start + threadIdx.y; row < end; row += 8) sum += values[row * row_stride + column];
    sum = column_sum(sum);
    if (column < width && threadIdx.y == 0) partial[blockIdx.y * (count_t)width + column] = sum;
}

// As sum_rows, of what a layer normalisation's weight and bias get.
KERNEL layer_norm_parameters(const float *x, const float *statistics, const float *dy, float *weight_partial,
                             float *bias_partial, unsigned width, unsigned rows_per_chunk, count_t rows) {
    const unsigned column = blockIdx.x * 32 + threadIdx.x;
    const count_t start = blockIdx.y * (count_t)rows_per_chunk;
    const count_t end = start + rows_per_chunk < rows ? start + rows_per_chunk : rows;
    float weight = 0, bias = 0;
    if (column < width)
        for (count_t row = start + threadIdx.y; row < end; row += 8) {
            const float gradient = dy[row * width + column];
            weight += gradient * ((x[row * width + column] - statistics[2 * row]) * statistics[2 * row + 1]);
            bias += gradient;
        }
    weight = column_sum(weight);
    bias = column_sum(bias);
    if (column < width && threadIdx.y == 0) {
        weight_partial[blockIdx.y * (count_t)width + column] = weight;
        bias_partial[blockIdx.y * (count_t)width + column] = bias;
    }
}

// sums (width) = or += the rows of partial (chunks, width), in their order.
KERNEL add_partial(const float *partial, float *sums, unsigned accumulate, unsigned chunks, count_t width) {
    EACH(column, width)
    float sum = accumulate ? sums[column] : 0.0f;
    for (unsigned chunk = 0; chunk < chunks; chunk++) sum += partial[chunk * width + column];
    sums[column] = sum;
}

// Each row of `width` scores becomes softmax(scale * row).
KERNEL softmax(float *scores, float scale, unsigned width, count_t rows) {
    EACH_ROW(row, lane, rows)
    scores += row * width;
    float highest = -INFINITY;
    for (unsigned i = lane; i < width; i += 32) highest = fmaxf(highest, scores[i]);
    highest = warp_max(highest);
    float sum = 0;
    for (unsigned i = lane; i < width; i += 32) {
        const float value = expf((scores[i] - highest) * scale);
        scores[i] = value;
        sum += value;
    }
    const float share = 1.0f / warp_sum(sum);
    for (unsigned i = lane; i < width; i += 32) scores[i] *= share;
}

// Turns the gradient of probabilities into that of unscaled scores, in place.
KERNEL softmax_backward(const float *probabilities, float *gradient, float scale, unsigned width, count_t rows) {
    EACH_ROW(row, lane, rows)
    probabilities += row * width;
    gradient += row * width;
    float products = 0;
    for (unsigned i = lane; i < width; i += 32) products += probabilities[i] * gradient[i];
    const float mean = warp_sum(products);
    for (unsigned i = lane; i < width; i += 32) gradient[i] = probabilities[i] * (gradient[i] - mean) * scale;
}

// Where the matrices of each head begin: array[image * heads + head] = base + image * image_stride + head * head_stride.
KERNEL head_pointers(float *base, float **array, unsigned heads, count_t image_stride, count_t head_stride,
                     count_t count) {
    EACH(i, count)
    array[i] = base + i / heads * image_stride + i % heads * head_stride;
}

// out (B, 1 + V, D): class token, then patches (B, V, D), positions (1 + L, D) added.
KERNEL embed(const float *patches, const float *class_token, const float *positions, const index_t *index, float *out,
             unsigned visible, unsigned width, count_t count) {
    EACH(i, count)
    const unsigned column = i % width;
    const count_t token = i / width, image = token / (visible + 1), place = token % (visible + 1);
    if (place == 0) {
        out[i] = class_token[column] + positions[column];
    } else {
        const count_t patch = image * visible + place - 1;
        out[i] = patches[patch * width + column] + positions[(1 + (count_t)index[patch]) * width + column];
    }
}

// From d_out (B, 1 + V, D) the part of the patches, (B, V, D).
KERNEL embed_backward(const float *d_out, float *d_patches, unsigned visible, unsigned width, count_t count) {
    EACH(i, count)
    const count_t patch = i / width, image = patch / visible;
    d_patches[i] = d_out[(patch + image + 1) * width + i % width];
}

// out (B, 1 + L, D): x (B, 1 + V, D) at its places, the mask token elsewhere, positions added.
KERNEL unshuffle(const float *x, const float *mask_token, const float *positions, const index_t *visible_index,
                 const index_t *masked_index, float *out, unsigned visible, unsigned masked, unsigned width,
                 count_t count) {
    EACH(i, count)
    const unsigned column = i % width, tokens = 1 + visible + masked;
    const count_t source = i / width, image = source / tokens;
    const unsigned place = source % tokens;
    count_t to = 0;
    float value;
    if (place <= visible) {
        if (place > 0) to = 1 + visible_index[image * visible + place - 1];
        value = x[(image * (1 + visible) + place) * width + column];
    } else {
        to = 1 + masked_index[image * masked + place - 1 - visible];
        value = mask_token[column];
    }
    out[(image * tokens + to) * width + column] = value + positions[to * width + column];
}

// From d_out (B, 1 + L, D) the part of x, (B, 1 + V, D).
KERNEL unshuffle_backward(const float *d_out, const index_t *visible_index, float *dx, unsigned visible,
                          unsigned tokens, unsigned width, count_t count) {
    EACH(i, count)
    const count_t source = i / width, image = source / (1 + visible), place = source % (1 + visible);
    const count_t from = place == 0 ? 0 : 1 + visible_index[image * visible + place - 1];
    dx[i] = d_out[(image * tokens + from) * width + i % width];
}

KERNEL add_positions(const float *x, const float *positions, float *out, count_t table, count_t count) {
    EACH(i, count)
    out[i] = x[i] + positions[i % table];
}

// out (B, M, D): the patches of x (B, tokens, D) that index (B, M) names; the first token is no patch.
KERNEL pick(const float *x, const index_t *index, float *out, unsigned picked, unsigned tokens, unsigned width,
            count_t count) {
    EACH(i, count)
    const count_t patch = i / width, image = patch / picked;
    out[i] = x[(image * tokens + 1 + index[patch]) * width + i % width];
}

// The other way round; no two patches go to one place, and what nothing goes to is left as it is.
KERNEL pick_backward(const float *d_out, const index_t *index, float *dx, unsigned picked, unsigned tokens,
                     unsigned width, count_t count) {
    EACH(i, count)
    const count_t patch = i / width, image = patch / picked;
    dx[(image * tokens + 1 + index[patch]) * width + i % width] = d_out[i];
}

// The sum of squared errors of each row, and `factor` times the gradient of half of it where `gradient` is given.
KERNEL masked_error(const float *predicted, const float *pixels, float *gradient, double *sums, unsigned normalised,
                    float factor, unsigned width, count_t rows) {
    EACH_ROW(row, lane, rows)
    predicted += row * width;
    pixels += row * width;
    float mean = 0, scale = 1;
    if (normalised) {
        float sum = 0, squares = 0;
        for (unsigned i = lane; i < width; i += 32) sum += pixels[i];
        mean = warp_sum(sum) / width;
        for (unsigned i = lane; i < width; i += 32) squares += (pixels[i] - mean) * (pixels[i] - mean);
        scale = 1.0f / sqrtf(warp_sum(squares) / (width - 1) + 1e-6f);
    }
    float total = 0;
    for (unsigned i = lane; i < width; i += 32) {
        const float error = predicted[i] - (pixels[i] - mean) * scale;
        total += error * error;
        if (gradient) gradient[row * width + i] = factor * error;
    }
    total = warp_sum(total);
    if (lane == 0) sums[row] = total;
}

// Adds up what the 256 threads of a block have; the first has the sum.
__device__ double block_sum(double value) {
    __shared__ double sums[256];
    sums[threadIdx.x] = value;
    for (unsigned half = 128; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
    }
    return sums[0];
}

// One sum a block of the squares of its share of the values.
KERNEL square_sums(const float *values, double *sums, count_t count) {
    double sum = 0;
    for (count_t i = blockIdx.x * 256ull + threadIdx.x; i < count; i += gridDim.x * 256ull)
        sum += (double)values[i] * values[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

// The sum of all, by one block.
KERNEL sum_doubles(const double *values, double *sum, count_t count) {
    double own = 0;
    for (count_t i = threadIdx.x; i < count; i += 256) own += values[i];
    own = block_sum(own);
    if (threadIdx.x == 0) *sum = own;
}

// loss += weight * the mean of so many squared errors, whose sum is given.
KERNEL add_loss(const double *sum, float *loss, float weight, double values) {
    EACH(i, 1)
    loss[i] += weight * (float)(sum[i] / values);
}

// What a step came to, as `Judgement` in verdict.rs has it.
struct judgement {
    double gradient_norm;
    count_t updates;
    float loss, step, root_correction, gradient_scale;
    unsigned counts, unused;
};

// A step counts if its loss and the norm of its gradient are finite. `updates` is how many counted before it, or `before` says.
KERNEL judge(const float *loss, const double *square_sum, const judgement *before, count_t updates, double lr,
             double beta1, double beta2, double clip_norm, judgement *verdict) {
    EACH(i, 1)
    if (before) updates = before[i].updates;
    const double norm = isfinite(loss[i]) ? sqrt(*square_sum) : NAN, power = (double)(updates + 1);
    verdict->gradient_norm = norm;
    verdict->loss = loss[i];
    verdict->counts = isfinite(norm);
    verdict->updates = updates + verdict->counts;
    verdict->step = (float)(lr / (1 - pow(beta1, power)));
    verdict->root_correction = (float)(1 / sqrt(1 - pow(beta2, power)));
    verdict->gradient_scale = (float)fmin(clip_norm / norm, 1.0);
    verdict->unused = 0;
}

KERNEL adamw(float *weights, const float *gradients, float *firsts, float *seconds, const judgement *verdict, float beta1,
             float beta2, float complement1, float complement2, float eps, float kept, count_t count) {
    EACH(i, count)
    if (!verdict->counts) return;
    const float gradient = gradients[i] * verdict->gradient_scale;
    const float first = beta1 * firsts[i] + complement1 * gradient;
    const float second = beta2 * seconds[i] + complement2 * gradient * gradient;
    firsts[i] = first;
    seconds[i] = second;
    weights[i] = weights[i] * kept - verdict->step * first / (sqrtf(second) * verdict->root_correction + eps);
}
