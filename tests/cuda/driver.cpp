// A CUDA driver and a cuBLAS that compute on the CPU: as much of them as the CUDA backend asks for. The program loads this
// library in their place, so that everything in the backend but the speed can be tested without a device: which kernel is
// launched with what, every index that a kernel computes, and what comes out of it all.
//
//     g++ -O3 -march=native -shared -fPIC -std=c++17 -o libcuda.so.1 driver.cpp && cp libcuda.so.1 libcublas.so.13
//
// Environment: FAKE_CUDA_VERSION (13000), FAKE_CUDA_DEVICES (1), FAKE_CUDA_BYTES (memory of the device).

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <sys/mman.h>
#include <utility>
#include <vector>

// ---- What a kernel sees ----

struct Place {
    unsigned x, y;
};

// A thread of a block is a stack of its own. It runs until it waits for others; when all wait or have ended, all go on.
struct Thread {
    Place index;
    unsigned number;
    bool ended;
    unsigned exchanges;
    void *stack_pointer;
    std::vector<char> stack;
};

static Thread *current;
static Place block_index, block_size, grid_size;
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

struct Kernel {
    const char *name;
    unsigned parameters;
    // Whether its threads wait for each other.
    bool waits;
    std::function<void(void **)> run;
};

template <typename... A, size_t... I>
void call(void (*kernel)(A...), void **arguments, std::index_sequence<I...>) {
    kernel(*static_cast<A *>(arguments[I])...);
}

template <typename... A>
Kernel kernel(const char *name, bool waits, void (*kernel)(A...)) {
    return {name, sizeof...(A), waits, [kernel](void **arguments) { call(kernel, arguments, std::index_sequence_for<A...>{}); }};
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
    kernel("sum_doubles", true, sum_doubles), kernel("adamw", false, adamw),
};

static const Kernel *running;
static void **running_arguments;

static void thread_main() {
    running->run(running_arguments);
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

static void run_block() {
    static std::vector<Thread> threads(1024);
    const unsigned count = block_size.x * block_size.y;
    if (!running->waits) {
        for (unsigned number = 0; number < count; number++) {
            current = &threads[0];
            current->index = {number % block_size.x, number / block_size.x};
            running->run(running_arguments);
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

// ---- The driver ----

typedef int Result;
enum { SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NOT_FOUND = 500 };

static size_t setting(const char *name, size_t otherwise) {
    const char *text = getenv(name);
    return text ? strtoull(text, nullptr, 10) : otherwise;
}

static size_t held;
static std::map<uint64_t, size_t> allocations;
static const size_t PAGE = 4096;

static size_t pages(size_t bytes) { return (bytes + PAGE - 1) / PAGE * PAGE; }

// Memory ends where nobody may read or write, so that a kernel that goes further ends the program.

static Result allocate(uint64_t *pointer, size_t bytes) {
    if (bytes == 0) {
        *pointer = 0;
        return SUCCESS;
    }
    if (held + bytes > setting("FAKE_CUDA_BYTES", size_t(1) << 34)) return OUT_OF_MEMORY;
    void *mapped = mmap(nullptr, pages(bytes) + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) return OUT_OF_MEMORY;
    char *end = static_cast<char *>(mapped) + pages(bytes);
    mprotect(end, PAGE, PROT_NONE);
    char *memory = end - (bytes + 15) / 16 * 16;
    // What is read before it is written shows: it is no number.
    memset(memory, 0xff, bytes);
    *pointer = reinterpret_cast<uint64_t>(memory);
    allocations[*pointer] = bytes;
    held += bytes;
    return SUCCESS;
}

static Result release(uint64_t pointer) {
    if (pointer == 0) return SUCCESS;
    auto found = allocations.find(pointer);
    if (found == allocations.end()) return INVALID_VALUE;
    munmap(reinterpret_cast<void *>(pointer / PAGE * PAGE), pages(found->second) + PAGE);
    held -= found->second;
    allocations.erase(found);
    return SUCCESS;
}

// Whether so many bytes from here on lie inside one allocation.
static bool inside(uint64_t pointer, size_t bytes) {
    auto after = allocations.upper_bound(pointer);
    if (after == allocations.begin()) return bytes == 0;
    auto found = std::prev(after);
    return pointer + bytes <= found->first + found->second;
}

static Result copy(uint64_t to, uint64_t from, size_t bytes, bool to_device, bool from_device) {
    if ((to_device && !inside(to, bytes)) || (from_device && !inside(from, bytes))) return INVALID_VALUE;
    memcpy(reinterpret_cast<void *>(to), reinterpret_cast<void *>(from), bytes);
    return SUCCESS;
}

extern "C" {
Result cuInit(unsigned) { return SUCCESS; }
Result cuDriverGetVersion(int *version) { return *version = setting("FAKE_CUDA_VERSION", 13000), SUCCESS; }
Result cuDeviceGet(int *device, int ordinal) { return *device = ordinal, SUCCESS; }
Result cuDeviceGetCount(int *count) { return *count = setting("FAKE_CUDA_DEVICES", 1), SUCCESS; }
Result cuDeviceGetName(char *name, int bytes, int) { return snprintf(name, bytes, "a CPU that plays a device"), SUCCESS; }
// Compute capability 9.0, memory pools, and whatever else is asked for.
Result cuDeviceGetAttribute(int *value, int attribute, int) {
    *value = attribute == 75 ? 9 : attribute == 76 ? 0 : 1;
    return SUCCESS;
}
Result cuDevicePrimaryCtxRetain(void **context, int) { return *context = &held, SUCCESS; }
Result cuDevicePrimaryCtxRelease_v2(int) { return SUCCESS; }
Result cuCtxSetCurrent(void *) { return SUCCESS; }
Result cuCtxGetCurrent(void **context) { return *context = &held, SUCCESS; }
Result cuGetErrorName(int, const char **name) { return *name = "an error", SUCCESS; }
Result cuGetErrorString(int, const char **text) { return *text = "of the driver that is none", SUCCESS; }
Result cuModuleLoadData(void **module, const void *) { return *module = &KERNELS, SUCCESS; }
Result cuModuleUnload(void *) { return SUCCESS; }
Result cuModuleGetFunction(const void **function, void *, const char *name) {
    for (const Kernel &kernel : KERNELS)
        if (std::string(kernel.name) == name) return *function = &kernel, SUCCESS;
    return NOT_FOUND;
}
Result cuLaunchKernel(const void *function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                      unsigned block_y, unsigned block_z, unsigned, void *, void **arguments, void **) {
    if (grid_x * grid_y * grid_z == 0 || block_x * block_y * block_z == 0 || block_x * block_y > 256) return INVALID_VALUE;
    if (grid_y > 65535 || grid_z != 1 || block_z != 1) return INVALID_VALUE;
    running = static_cast<const Kernel *>(function);
    running_arguments = arguments;
    grid_size = {grid_x, grid_y};
    block_size = {block_x, block_y};
    for (unsigned y = 0; y < grid_y; y++)
        for (unsigned x = 0; x < grid_x; x++) {
            block_index = {x, y};
            run_block();
        }
    return SUCCESS;
}
Result cuMemGetInfo_v2(size_t *free_bytes, size_t *total) {
    *total = setting("FAKE_CUDA_BYTES", size_t(1) << 34);
    return *free_bytes = *total - held, SUCCESS;
}
Result cuMemAlloc_v2(uint64_t *pointer, size_t bytes) { return allocate(pointer, bytes); }
Result cuMemAllocAsync(uint64_t *pointer, size_t bytes, void *) { return allocate(pointer, bytes); }
Result cuMemFree_v2(uint64_t pointer) { return release(pointer); }
Result cuMemFreeAsync(uint64_t pointer, void *) { return release(pointer); }
Result cuMemHostAlloc(void **pointer, size_t bytes, unsigned) { return *pointer = malloc(bytes), SUCCESS; }
Result cuMemFreeHost(void *pointer) { return free(pointer), SUCCESS; }
Result cuMemsetD8_v2(uint64_t pointer, unsigned char value, size_t bytes) {
    if (!inside(pointer, bytes)) return INVALID_VALUE;
    return bytes ? memset(reinterpret_cast<void *>(pointer), value, bytes) : nullptr, SUCCESS;
}
Result cuMemsetD8Async(uint64_t pointer, unsigned char value, size_t bytes, void *) {
    return cuMemsetD8_v2(pointer, value, bytes);
}
Result cuMemcpyHtoD_v2(uint64_t to, const void *from, size_t bytes) {
    return copy(to, reinterpret_cast<uint64_t>(from), bytes, true, false);
}
Result cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t bytes, void *) { return cuMemcpyHtoD_v2(to, from, bytes); }
Result cuMemcpyDtoH_v2(void *to, uint64_t from, size_t bytes) {
    return copy(reinterpret_cast<uint64_t>(to), from, bytes, false, true);
}
Result cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t bytes, void *) { return cuMemcpyDtoH_v2(to, from, bytes); }
Result cuMemcpyDtoD_v2(uint64_t to, uint64_t from, size_t bytes) { return copy(to, from, bytes, true, true); }
Result cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t bytes, void *) { return cuMemcpyDtoD_v2(to, from, bytes); }
Result cuStreamCreate(void **stream, unsigned) { return *stream = &held, SUCCESS; }
Result cuStreamDestroy_v2(void *) { return SUCCESS; }
Result cuStreamSynchronize(void *) { return SUCCESS; }
Result cuStreamWaitEvent(void *, void *, unsigned) { return SUCCESS; }
Result cuEventCreate(void **event, unsigned) { return *event = &held, SUCCESS; }
Result cuEventRecord(void *, void *) { return SUCCESS; }
Result cuEventDestroy_v2(void *) { return SUCCESS; }
}

// ---- cuBLAS ----

// C (m, n) = alpha op(A) op(B) + beta C, every matrix column by column.
static void multiply(bool turn_a, bool turn_b, int m, int n, int k, float alpha, const float *a, int ld_a, const float *b,
                     int ld_b, float beta, float *c, int ld_c) {
    std::vector<float> columns(size_t(m) * k);
    for (int i = 0; i < m; i++)
        for (int p = 0; p < k; p++) columns[size_t(p) * m + i] = turn_a ? a[size_t(i) * ld_a + p] : a[size_t(p) * ld_a + i];
    for (int j = 0; j < n; j++) {
        std::vector<float> sums(m, 0.0f);
        for (int p = 0; p < k; p++) {
            const float factor = turn_b ? b[size_t(p) * ld_b + j] : b[size_t(j) * ld_b + p];
            const float *column = &columns[size_t(p) * m];
            for (int i = 0; i < m; i++) sums[i] += column[i] * factor;
        }
        // As cuBLAS: what is multiplied by nothing is not read.
        for (int i = 0; i < m; i++) {
            float &value = c[size_t(j) * ld_c + i];
            value = beta == 0 ? alpha * sums[i] : alpha * sums[i] + beta * value;
        }
    }
}

static bool fits(bool turned, int rows, int columns, int ld) { return ld >= (turned ? columns : rows); }

extern "C" {
int cublasCreate_v2(void **handle) { return *handle = &held, 0; }
int cublasDestroy_v2(void *) { return 0; }
int cublasSetStream_v2(void *, void *) { return 0; }
int cublasSgemm_v2(void *, int turn_a, int turn_b, int m, int n, int k, const float *alpha, const float *a, int ld_a,
                   const float *b, int ld_b, const float *beta, float *c, int ld_c) {
    if (!fits(turn_a, m, k, ld_a) || !fits(turn_b, k, n, ld_b) || ld_c < m) return 7;
    multiply(turn_a, turn_b, m, n, k, *alpha, a, ld_a, b, ld_b, *beta, c, ld_c);
    return 0;
}
int cublasSgemmBatched(void *, int turn_a, int turn_b, int m, int n, int k, const float *alpha, const float *const *a,
                       int ld_a, const float *const *b, int ld_b, const float *beta, float *const *c, int ld_c, int batch) {
    if (!fits(turn_a, m, k, ld_a) || !fits(turn_b, k, n, ld_b) || ld_c < m) return 7;
    for (int i = 0; i < batch; i++)
        multiply(turn_a, turn_b, m, n, k, *alpha, a[i], ld_a, b[i], ld_b, *beta, c[i], ld_c);
    return 0;
}
}
