// CUDA kernels: layers as `minineo.layers` has them, each in one pass over its data, and the steps of decoding a token.
//
// NUMBER is the parameters' type, float or __half, set when this is compiled. Sums, exponentials, scores, norms and the
// residual stream of decoding are float whatever it is. A block has whole warps of 32 threads.
//
// Dimensions: D hidden size, H heads, T queries, S keys, d head size, V vocabulary, I inputs, O outputs.

#ifndef NUMBER
#define NUMBER float
#endif
#ifndef INFINITY
#define INFINITY __int_as_float(0x7f800000)
#endif
#ifndef DYNAMIC_SHARED
#include <cuda_fp16.h>
#define DYNAMIC_SHARED(name) extern __shared__ float name[]
#endif

const float LOWEST = -3.402823466e38f;  // what padding scores, as in minineo.layers.attention
const int PACK = 16 / sizeof(NUMBER);   // numbers that a thread reads at once

struct alignas(16) Pack {
    NUMBER values[PACK];
};

__device__ float warp_sum(float value) {
    for (int offset = 16; offset > 0; offset /= 2) value += __shfl_xor_sync(0xffffffffu, value, offset);
    return value;
}

// The sum of all threads' values, in each of them.
__device__ float block_sum(float value) {
    __shared__ float parts[32];
    value = warp_sum(value);
    __syncthreads();  // the parts of an earlier sum have been read
    if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = value;
    __syncthreads();
    float total = 0.0f;
    for (int warp = 0; warp < blockDim.x / 32; warp++) total += parts[warp];
    return total;
}

__device__ float block_max(float value) {
    __shared__ float parts[32];
    for (int offset = 16; offset > 0; offset /= 2)
        value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, offset));
    __syncthreads();
    if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = value;
    __syncthreads();
    float largest = parts[0];
    for (int warp = 1; warp < blockDim.x / 32; warp++) largest = fmaxf(largest, parts[warp]);
    return largest;
}

__device__ float gelu(float x) {
    return 0.5f * x * (1.0f + tanhf(0.7978845608028654f * (x + 0.044715f * x * x * x)));
}

// y = gelu_new(x), both (count,).
extern "C" __global__ void gelu_new(const NUMBER* x, NUMBER* y, long long count) {
    long long step = (long long)gridDim.x * blockDim.x;
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += step)
        y[i] = NUMBER(gelu(float(x[i])));
}

// Layer norm of rows (N, D), a block for each.
extern "C" __global__ void layer_norm(const NUMBER* x, const NUMBER* weight, const NUMBER* bias, NUMBER* y,
                                      float epsilon, int D) {
    const NUMBER* row = x + (long long)blockIdx.x * D;
    NUMBER* out = y + (long long)blockIdx.x * D;
    float sum = 0.0f, squares = 0.0f;
    for (int i = threadIdx.x; i < D; i += blockDim.x) sum += float(row[i]);
    float mean = block_sum(sum) / D;
    for (int i = threadIdx.x; i < D; i += blockDim.x) {
        float centred = float(row[i]) - mean;
        squares += centred * centred;
    }
    float scale = 1.0f / sqrtf(block_sum(squares) / D + epsilon);
    for (int i = threadIdx.x; i < D; i += blockDim.x)
        out[i] = NUMBER((float(row[i]) - mean) * scale * float(weight[i]) + float(bias[i]));
}

// Mask and softmax of scores (B, H, T, S), a block for each row: what lies ahead or before the window is not seen,
// padding (real (B, S) is 0, or real is null) not beside anything else. A window of 0 is none.
extern "C" __global__ void masked_softmax(const float* scores, const unsigned char* real, NUMBER* pattern,
                                          int H, int T, int S, int window) {
    long long row = blockIdx.x;
    const float* from = scores + row * S;
    NUMBER* to = pattern + row * S;
    const unsigned char* is_real = real ? real + row / ((long long)H * T) * S : nullptr;
    int query = S - T + int(row % T);
    int first = window > 0 && query >= window ? query - window + 1 : 0;
    float largest = -INFINITY, sum = 0.0f;
    for (int j = first + threadIdx.x; j <= query; j += blockDim.x)
        largest = fmaxf(largest, is_real && !is_real[j] ? LOWEST : from[j]);
    largest = block_max(largest);
    for (int j = first + threadIdx.x; j <= query; j += blockDim.x)
        sum += expf((is_real && !is_real[j] ? LOWEST : from[j]) - largest);
    sum = block_sum(sum);
    for (int j = threadIdx.x; j < S; j += blockDim.x) {
        bool seen = j >= first && j <= query;
        to[j] = NUMBER(seen ? expf((is_real && !is_real[j] ? LOWEST : from[j]) - largest) / sum : 0.0f);
    }
}

// ---- Decoding: one token of one text. `position` is where it stands; it is read here, so that the same launches, -----
// ---- captured once, serve every token. -------------------------------------------------------------------------------

// The sum of the token's and its position's embedding, the beginning of the residual stream x (D,).
extern "C" __global__ void embed_token(const long long* tokens, const int* position, const NUMBER* wte,
                                       const NUMBER* wpe, float* x, int D) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < D) x[i] = float(wte[tokens[*position] * D + i]) + float(wpe[(long long)*position * D + i]);
}

// The layer norm of x (D,) in shared memory: every block makes its own, which is quicker than to wait for another.
__device__ void norm_in_shared(const float* x, const NUMBER* weight, const NUMBER* bias, float epsilon, int D,
                               float* normed) {
    float sum = 0.0f, squares = 0.0f;
    for (int i = threadIdx.x; i < D; i += blockDim.x) sum += x[i];
    float mean = block_sum(sum) / D;
    for (int i = threadIdx.x; i < D; i += blockDim.x) squares += (x[i] - mean) * (x[i] - mean);
    float scale = 1.0f / sqrtf(block_sum(squares) / D + epsilon);
    for (int i = threadIdx.x; i < D; i += blockDim.x)
        normed[i] = (x[i] - mean) * scale * float(weight[i]) + float(bias[i]);
    __syncthreads();
}

// The product of a row of a weight with x (I,) in shared memory, by one warp; every lane gets it.
__device__ float row_times(const NUMBER* row, const float* x, int I) {
    int lane = threadIdx.x % 32;
    float sum = 0.0f;
    if (I % PACK == 0) {  // all rows are aligned
        for (int i = lane * PACK; i < I; i += 32 * PACK) {
            Pack pack = *reinterpret_cast<const Pack*>(row + i);
            for (int k = 0; k < PACK; k++) sum += float(pack.values[k]) * x[i + k];
        }
    } else {
        for (int i = lane; i < I; i += 32) sum += float(row[i]) * x[i];
    }
    return warp_sum(sum);
}

// Queries (D,), keys and values of the token: ln_1, then three products. Keys and values go where they belong in the
// layer's cache, (H, S, d) each. A warp for each of the 3 D rows.
extern "C" __global__ void project_qkv(const float* x, const NUMBER* ln_weight, const NUMBER* ln_bias, float epsilon,
                                       const NUMBER* wq, const NUMBER* wk, const NUMBER* wv, const int* position,
                                       float* q, NUMBER* keys, NUMBER* values, int D, int d, int S) {
    DYNAMIC_SHARED(normed);
    norm_in_shared(x, ln_weight, ln_bias, epsilon, D, normed);
    int output = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    if (output >= 3 * D) return;
    int which = output / D, row = output % D;
    const NUMBER* weight = which == 0 ? wq : which == 1 ? wk : wv;
    float y = row_times(weight + (long long)row * D, normed, D);
    if (threadIdx.x % 32 != 0) return;
    long long place = ((long long)(row / d) * S + *position) * d + row % d;
    if (which == 0) q[row] = y;
    else if (which == 1) keys[place] = NUMBER(y);
    else values[place] = NUMBER(y);
}

// Attention of the token to the positions before it and to itself, a block for each head: z (D,). A window of 0 is none.
extern "C" __global__ void attend(const float* q, const NUMBER* keys, const NUMBER* values, const int* position,
                                  float* z, int d, int S, int window) {
    DYNAMIC_SHARED(shared);  // S weights, then d sums for each warp
    int head = blockIdx.x, warp = threadIdx.x / 32, lane = threadIdx.x % 32, warps = blockDim.x / 32;
    int last = *position, first = window > 0 && last >= window ? last - window + 1 : 0;
    const float* query = q + head * d;
    const NUMBER* k = keys + (long long)head * S * d;
    const NUMBER* v = values + (long long)head * S * d;
    float largest = -INFINITY, sum = 0.0f;
    for (int j = first + warp; j <= last; j += warps) {
        float score = 0.0f;
        for (int i = lane; i < d; i += 32) score += query[i] * float(k[(long long)j * d + i]);
        score = warp_sum(score);
        if (lane == 0) shared[j - first] = score;
        largest = fmaxf(largest, score);
    }
    largest = block_max(largest);  // all scores are written, too
    for (int j = threadIdx.x; j <= last - first; j += blockDim.x) {
        shared[j] = expf(shared[j] - largest);
        sum += shared[j];
    }
    sum = block_sum(sum);
    float* parts = shared + S;
    for (int i = lane; i < d; i += 32) {
        float part = 0.0f;
        for (int j = warp; j <= last - first; j += warps) part += shared[j] * float(v[(long long)(first + j) * d + i]);
        parts[warp * d + i] = part;
    }
    __syncthreads();
    for (int i = threadIdx.x; i < d; i += blockDim.x) {
        float total = 0.0f;
        for (int w = 0; w < warps; w++) total += parts[w * d + i];
        z[head * d + i] = total / sum;
    }
}

// x (O,) += weight (O, I) y (I,) + bias: what a block's half adds to the residual stream. A warp for each row.
extern "C" __global__ void project_and_add(const float* y, const NUMBER* weight, const NUMBER* bias, float* x,
                                           int I, int O) {
    DYNAMIC_SHARED(inputs);
    for (int i = threadIdx.x; i < I; i += blockDim.x) inputs[i] = y[i];
    __syncthreads();
    int row = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    if (row >= O) return;
    float sum = row_times(weight + (long long)row * I, inputs, I);
    if (threadIdx.x % 32 == 0) x[row] += sum + float(bias[row]);
}

// Layer norm, a product with a weight (O, D), and with a bias gelu_new of their sum: an MLP's first half, and the head.
extern "C" __global__ void normed_product(const float* x, const NUMBER* ln_weight, const NUMBER* ln_bias,
                                          float epsilon, const NUMBER* weight, const NUMBER* bias, float* y,
                                          int D, int O) {
    DYNAMIC_SHARED(normed);
    norm_in_shared(x, ln_weight, ln_bias, epsilon, D, normed);
    int step = gridDim.x * (blockDim.x / 32);
    for (int row = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32; row < O; row += step) {
        float sum = row_times(weight + (long long)row * D, normed, D);
        if (threadIdx.x % 32 == 0) y[row] = bias ? gelu(sum + float(bias[row])) : sum;
    }
}

// A number whose order among unsigned integers is that of x among floats.
__device__ unsigned int ordered(float x) {
    unsigned int bits = __float_as_uint(x);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

// The k-th largest of logits (V,): bit after bit, the largest number that k of them reach.
__device__ unsigned int kth_largest(const float* logits, int V, int k) {
    unsigned int found = 0;
    for (int bit = 31; bit >= 0; bit--) {
        unsigned int candidate = found | (1u << bit);
        float count = 0.0f;  // exact up to 2^24
        for (int i = threadIdx.x; i < V; i += blockDim.x) count += ordered(logits[i]) >= candidate;
        if (block_sum(count) >= k) found = candidate;
    }
    return found;
}

// Gumbel noise, -log(-log(u)) of a uniform u, for each key, position and token; its bits are those of SplitMix64's
// finaliser (Steele et al. 2014). Of a vocabulary the largest noise counts, where u is near 1: so 1 - u is drawn, which
// near 0 has digits enough.
__device__ float gumbel(unsigned long long key, int position, int token) {
    unsigned long long z = key + 0x9e3779b97f4a7c15ull * ((unsigned long long)position * 0x100000000ull + token + 1);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    z ^= z >> 31;
    float rest = float(((z >> 11) + 0.5) * (1.0 / 9007199254740992.0));
    return -logf(-log1pf(-rest));
}

// The next token, written after the present one; then the position moves on. By one block. A temperature of 0 takes the
// likeliest token. Else the one whose logit, divided by the temperature, is largest after Gumbel noise is added to it:
// it has the probability that the softmax gives it (Gumbel 1954). A top_k above 0 draws among the k likeliest.
extern "C" __global__ void choose_token(const float* logits, long long* tokens, int* position, float temperature,
                                        int top_k, unsigned long long key, int V) {
    __shared__ int winner;
    unsigned int least = temperature > 0.0f && top_k > 0 && top_k < V ? kth_largest(logits, V, top_k) : 0u;
    float best = -INFINITY;
    int token = V;
    for (int i = threadIdx.x; i < V; i += blockDim.x) {
        float score = logits[i];
        if (temperature > 0.0f) {
            if (ordered(score) < least) continue;
            score = score / temperature + gumbel(key, *position, i);
        }
        if (score > best) {
            best = score;
            token = i;
        }
    }
    float largest = block_max(best);
    if (threadIdx.x == 0) winner = V;
    __syncthreads();
    if (best == largest) atomicMin(&winner, token);  // the first of equals, as argmax takes
    __syncthreads();
    if (threadIdx.x == 0) {
        tokens[*position + 1] = winner < V ? winner : 0;
        *position += 1;
    }
}
