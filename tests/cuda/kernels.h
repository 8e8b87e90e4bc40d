// The kernels as functions of the host, and the threads that run them.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <tuple>
#include <utility>
#include <vector>

using std::isfinite;

// ---- What a kernel sees ----

struct Indices {
    unsigned x, y;
};

// A thread of a block is a stack of its own. It runs until it waits for others; when all wait or have ended, all go on.
struct Thread {
    Indices index;
    unsigned number;
    bool ended;
    unsigned exchanges;
    void *stack_pointer;
    std::vector<char> stack;
};

static Thread *current;
static Indices block_index, block_size, grid_size;
static void *scheduler_stack;
static float exchanged[2][1024];

#define threadIdx (current->index)
#define blockIdx block_index
#define blockDim block_size
#define gridDim grid_size
#define __global__
#define __device__ static
#define __shared__ static
#define __launch_bounds__(threads)

extern "C" void switch_stack(void **save, void *load);
asm(R"(
.text
.globl switch_stack
switch_stack:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
)");

static void wait_for_others() { switch_stack(&current->stack_pointer, scheduler_stack); }
static void __syncthreads() { wait_for_others(); }

// All threads of a warp write, wait, and read. The next exchange goes to the other half, because some read late.
static float __shfl_xor_sync(unsigned, float value, int mask) {
    float *slots = exchanged[current->exchanges++ % 2];
    slots[current->number] = value;
    wait_for_others();
    return slots[current->number ^ mask];
}

static float normcdff(float x) { return 0.5f * erfcf(-x * 0.70710678f); }

#include "../../model/src/cuda/kernels.cu"

#undef threadIdx
#undef blockIdx
#undef blockDim
#undef gridDim

// ---- Launching ----

// A kernel with its arguments, for one thread of it.
typedef std::function<void()> Body;

struct Kernel {
    const char *name;
    // Whether its threads wait for each other.
    bool waits;
    std::function<Body(void **)> bind;
};

template <typename... A, size_t... I>
Body with(void (*kernel)(A...), void **arguments, std::index_sequence<I...>) {
    return [kernel, values = std::make_tuple(*static_cast<A *>(arguments[I])...)] { std::apply(kernel, values); };
}

template <typename... A>
Kernel kernel(const char *name, bool waits, void (*kernel)(A...)) {
    return {name, waits, [kernel](void **arguments) { return with(kernel, arguments, std::index_sequence_for<A...>{}); }};
}

static std::vector<Kernel> KERNELS = {
    kernel("fill", false, fill), kernel("add", false, add), kernel("fill_bias", false, fill_bias),
    kernel("fill_bias_and_residual", false, fill_bias_and_residual), kernel("normalise", false, normalise),
    kernel("gelu", false, gelu), kernel("gelu_backward", false, gelu_backward), kernel("layer_norm", true, layer_norm),
    kernel("layer_norm_backward", true, layer_norm_backward), kernel("sum_rows", true, sum_rows),
    kernel("layer_norm_parameters", true, layer_norm_parameters), kernel("add_partial", false, add_partial),
    kernel("softmax", true, softmax), kernel("softmax_backward", true, softmax_backward),
    kernel("head_pointers", false, head_pointers), kernel("embed", false, embed),
    kernel("embed_backward", false, embed_backward), kernel("unshuffle", false, unshuffle),
    kernel("unshuffle_backward", false, unshuffle_backward), kernel("add_positions", false, add_positions),
    kernel("pick", false, pick), kernel("pick_backward", false, pick_backward),
    kernel("masked_error", true, masked_error), kernel("square_sums", true, square_sums),
    kernel("sum_doubles", true, sum_doubles), kernel("add_loss", false, add_loss),
    kernel("judge", false, judge), kernel("adamw", false, adamw),
};

static const Body *running;

static void thread_main() {
    (*running)();
    current->ended = true;
    wait_for_others();
    abort();
}

static void start(Thread &thread, unsigned number) {
    thread.index = {number % block_size.x, number / block_size.x};
    thread.number = number;
    thread.ended = false;
    thread.exchanges = 0;
    thread.stack.resize(1 << 15);
    // What switch_stack pops: six registers and the address to return to, after which the stack must be 8 beyond 16.
    auto top = (reinterpret_cast<uintptr_t>(thread.stack.data() + thread.stack.size()) & ~uintptr_t(15)) - 8;
    auto *stack = reinterpret_cast<void **>(top);
    *--stack = reinterpret_cast<void *>(thread_main);
    stack -= 6;
    thread.stack_pointer = stack;
}

static void run_block(bool waits) {
    static std::vector<Thread> threads(1024);
    const unsigned count = block_size.x * block_size.y;
    if (!waits) {
        for (unsigned number = 0; number < count; number++) {
            current = &threads[0];
            current->index = {number % block_size.x, number / block_size.x};
            (*running)();
        }
        return;
    }
    for (unsigned number = 0; number < count; number++) start(threads[number], number);
    for (bool going = true; going;) {
        going = false;
        for (unsigned number = 0; number < count; number++) {
            current = &threads[number];
            if (current->ended) continue;
            switch_stack(&scheduler_stack, current->stack_pointer);
            going |= !current->ended;
        }
    }
}
