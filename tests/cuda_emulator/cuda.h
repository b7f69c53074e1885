// CUDA on a processor, as far as our kernels need it: the threads of a block take turns, the blocks follow one another.
//
// Each thread is a coroutine (ucontext) that runs until it waits: for the block at __syncthreads, or for its warp in a
// shuffle. A warp runs as far ahead of the others as it can, so that where a barrier is missing it overwrites what they
// have not read, or reads what they have not written. A barrier that not all threads reach ends in an error.
#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <tuple>
#include <vector>

#define __global__
#define __device__ static
#define __shared__ static
#define DYNAMIC_SHARED(name) float* name = emulated_shared.data()

struct Index { unsigned x = 0; };
static Index threadIdx, blockIdx, blockDim, gridDim;
static std::vector<float> emulated_shared;

struct Thread {
    ucontext_t context;  // where it begins
    jmp_buf place;       // where it goes on: to switch by these is faster, as no signal mask is saved
    bool begun = false;
    std::vector<char> stack;
    bool done = false;
    int waits = 0;  // 0: runs, 1: for the block, 2: for its warp
    unsigned slot = 0;
};
static std::vector<Thread> threads;
static jmp_buf scheduler_place;
static unsigned current;

static void wait(int kind) {
    threads[current].waits = kind;
    if (!_setjmp(threads[current].place)) _longjmp(scheduler_place, 1);
}
static void go_on(Thread& thread) {
    if (_setjmp(scheduler_place)) return;
    if (thread.begun) _longjmp(thread.place, 1);
    thread.begun = true;
    setcontext(&thread.context);
}
static void __syncthreads() { wait(1); }
static float __shfl_xor_sync(unsigned, float value, int mask) {
    std::memcpy(&threads[current].slot, &value, sizeof value);
    wait(2);  // all of the warp have written
    float other;
    std::memcpy(&other, &threads[(current / 32) * 32 + ((current % 32) ^ mask)].slot, sizeof other);
    wait(2);  // all of the warp have read
    return other;
}
static unsigned __float_as_uint(float x) {
    unsigned bits;
    std::memcpy(&bits, &x, sizeof bits);
    return bits;
}
static void __threadfence() {}
static int atomicAdd(int* address, int value) {
    int before = *address;
    *address += value;
    return before;
}
static int atomicMin(int* address, int value) {
    int before = *address;
    *address = std::min(before, value);
    return before;
}

// Let go on who has nothing left to wait for; whoever has ended keeps nobody waiting.
static bool release(int kind, unsigned from, unsigned to) {
    bool any = false;
    for (unsigned i = from; i < to; i++) {
        if (!threads[i].done && threads[i].waits != kind) return false;
        any |= !threads[i].done;
    }
    for (unsigned i = from; i < to; i++) threads[i].waits = 0;
    return any;
}

template <class Body> static void run_block(Body body) {
    static Body* running;
    running = &body;
    unsigned count = blockDim.x;
    threads.resize(count);
    for (unsigned i = 0; i < count; i++) {
        Thread& thread = threads[i];
        thread.stack.resize(64 * 1024);
        thread.done = thread.begun = false;
        thread.waits = 0;
        getcontext(&thread.context);
        thread.context.uc_stack.ss_sp = thread.stack.data();
        thread.context.uc_stack.ss_size = thread.stack.size();
        makecontext(&thread.context, (void (*)())(+[] {
            (*running)();
            threads[current].done = true;
            _longjmp(scheduler_place, 1);
        }), 0);
    }
    for (;;) {
        bool ran = false, left = false;
        for (unsigned first = 0; first < count; first += 32) {
            for (bool goes_on = true; goes_on; goes_on |= release(2, first, first + 32)) {
                goes_on = false;
                for (current = first; current < first + 32; current++) {
                    if (threads[current].done) continue;
                    left = true;
                    if (threads[current].waits) continue;
                    ran = goes_on = true;
                    threadIdx.x = current;
                    go_on(threads[current]);
                }
            }
        }
        if (!left) return;
        if (!release(1, 0, count) && !ran) {
            std::fprintf(stderr, "a barrier that not all threads reach\n");
            std::abort();
        }
    }
}

template <class... Types>
static void run(void (*kernel)(Types...), unsigned grid, unsigned block, unsigned shared, void** arguments) {
    gridDim.x = grid;
    blockDim.x = block;
    emulated_shared.assign(shared / 4, NAN);
    for (blockIdx.x = 0; blockIdx.x < grid; blockIdx.x++) {
        std::fill(emulated_shared.begin(), emulated_shared.end(), NAN);  // nothing is left of another block
        int i = sizeof...(Types);
        std::tuple<Types...> values{*static_cast<Types*>(arguments[sizeof...(Types) - i--])...};
        run_block([&] { std::apply(kernel, values); });
    }
}
