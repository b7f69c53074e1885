// CUDA kernels: the steps of decoding a token of one text, compiled behind kernels.cu, whose NUMBER and sums they use.
//
// `position` is where the token stands; it is read here, so that the same launches, captured once, serve every token.
//
// Dimensions: D hidden size, H heads, d head size, S positions there is room for, V vocabulary, I inputs, O outputs.

const int PACK = 16 / sizeof(NUMBER);  // numbers that a thread reads at once

struct alignas(16) Pack {
    NUMBER values[PACK];
};
struct alignas(16) Four {
    float values[4];
};

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
    if (I % PACK == 0 && reinterpret_cast<unsigned long long>(row) % sizeof(Pack) == 0) {
        for (int i = lane * PACK; i < I; i += 32 * PACK) {
            Pack pack = *reinterpret_cast<const Pack*>(row + i);
            for (int k = 0; k < PACK; k += 4) {  // one by one, the lanes would wait for the same banks of shared memory
                Four four = *reinterpret_cast<const Four*>(x + i + k);
                for (int n = 0; n < 4; n++) sum += float(pack.values[k + n]) * four.values[n];
            }
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

// Attention of a query (d,) to keys and values first ... last (S, d), by one block: found gets the sum of values (d,) by
// weights exp(score - largest), the sum of the weights, and the largest score, -infinity where there are no keys.
__device__ void attend_to(const float* query, const NUMBER* k, const NUMBER* v, int first, int last, int d,
                          float* weights, float* sums, float* found) {
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32, warps = blockDim.x / 32;
    float largest = -INFINITY, sum = 0.0f;
    for (int j = first + warp; j <= last; j += warps) {
        float score = 0.0f;
        for (int i = lane; i < d; i += 32) score += query[i] * float(k[(long long)j * d + i]);
        score = warp_sum(score);
        if (lane == 0) weights[j - first] = score;
        largest = fmaxf(largest, score);
    }
    largest = block_max(largest);  // all scores are written, too
    for (int j = threadIdx.x; j <= last - first; j += blockDim.x) {
        weights[j] = expf(weights[j] - largest);
        sum += weights[j];
    }
    sum = block_sum(sum);
    for (int i = lane; i < d; i += 32) {
        float part = 0.0f;
        for (int j = warp; j <= last - first; j += warps) part += weights[j] * float(v[(long long)(first + j) * d + i]);
        sums[warp * d + i] = part;
    }
    __syncthreads();
    for (int i = threadIdx.x; i < d; i += blockDim.x) {
        float total = 0.0f;
        for (int w = 0; w < warps; w++) total += sums[w * d + i];
        found[i] = total;
    }
    if (threadIdx.x == 0) {
        found[d] = sum;
        found[d + 1] = largest;
    }
}

// Attention of the token to the positions before it and to itself: z (D,). A window of 0 is none. For each head, `parts`
// blocks share the positions, so that all of the GPU reads keys and values; the one that is done last combines what
// they found (H, parts, d + 2), as in Flash-Decoding (Dao et al. 2023). done (H,) counts them, and is 0 again at the end.
extern "C" __global__ void attend(const float* q, const NUMBER* keys, const NUMBER* values, const int* position,
                                  float* z, float* found, int* done, int parts, int d, int S, int window) {
    DYNAMIC_SHARED(shared);  // d sums for each warp, then a weight for each position of this part
    __shared__ int others;
    int head = blockIdx.x / parts, part = blockIdx.x % parts;
    int last = *position, first = window > 0 && last >= window ? last - window + 1 : 0;
    int each = (last - first + parts) / parts;  // rounded up
    int from = first + part * each, to = from + each - 1 < last ? from + each - 1 : last;
    long long cache = (long long)head * S * d;
    float* of_head = found + (long long)head * parts * (d + 2);
    attend_to(q + head * d, keys + cache, values + cache, from, to, d, shared + blockDim.x / 32 * d, shared,
              of_head + part * (d + 2));
    __threadfence();  // what was found is seen by all blocks, before it is counted
    __syncthreads();
    if (threadIdx.x == 0) others = atomicAdd(done + head, 1);
    __syncthreads();
    if (others < parts - 1) return;
    __threadfence();
    float largest = -INFINITY;
    for (int p = 0; p < parts; p++) largest = fmaxf(largest, of_head[p * (d + 2) + d + 1]);
    for (int i = threadIdx.x; i < d; i += blockDim.x) {
        float total = 0.0f, sum = 0.0f;
        for (int p = 0; p < parts; p++) {
            const float* one = of_head + p * (d + 2);
            float scale = expf(one[d + 1] - largest);
            total += scale * one[i];
            sum += scale * one[d];
        }
        z[head * d + i] = total / sum;
    }
    if (threadIdx.x == 0) done[head] = 0;
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
