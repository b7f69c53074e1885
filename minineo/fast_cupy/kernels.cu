// CUDA kernels: layers as `minineo.layers` has them, each in one pass over its data. decoding.cu is compiled behind this.
//
// NUMBER is the parameters' type, float or __half, set when this is compiled. Sums, exponentials, scores, norms and the
// residual stream of decoding are float whatever it is. A block has whole warps of 32 threads.
//
// Dimensions: D hidden size, H heads, T queries, S keys.

#ifndef NUMBER
#define NUMBER float
#endif
#ifndef INFINITY
#define INFINITY __int_as_float(0x7f800000)
#endif
#ifndef DYNAMIC_SHARED
#include <cuda_fp16.h>
#define DYNAMIC_SHARED(name) extern __shared__ __align__(16) float name[]
#endif

const float LOWEST = -3.402823466e38f;  // what padding scores, as in minineo.layers.attention

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
