// A CUDA driver and a cuBLAS that compute on the CPU: as much of them as the CUDA backend asks for. The program loads this
// library in their place, so that everything in the backend but the speed can be tested without a device: which kernel is
// launched with what, every index that a kernel computes, who waits for whom, and what comes out of it all.
//
//     g++ -O3 -march=native -shared -fPIC -std=c++17 -o libcuda.so.1 driver.cpp && ln -s libcuda.so.1 libcublas.so.13
//
// Environment: FAKE_CUDA_VERSION (13000), FAKE_CUDA_DEVICES (1), FAKE_CUDA_BYTES (memory of the device), FAKE_CUDA_EARLY (copies
// on a stream of their own are made as soon as they may, not as late as they can), FAKE_CUDA_LAUNCH_US (how long launching a
// kernel takes, in which other threads may run ahead), FAKE_CUDA_WAITS (a file that gets how often the host waited).

#include "kernels.h"
#include "streams.h"

#include <cstdio>
#include <cstring>
#include <map>
#include <string>
#include <sys/mman.h>
#include <unistd.h>

// ---- The driver ----

typedef int Result;
enum { SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, INVALID_CONTEXT = 201, NOT_FOUND = 500 };

static size_t setting(const char *name, size_t otherwise) {
    const char *text = getenv(name);
    return text ? strtoull(text, nullptr, 10) : otherwise;
}

typedef std::map<uint64_t, size_t> Allocations;
static Allocations on_device, page_locked;
static size_t held;
static const size_t PAGE = 4096;
static thread_local bool bound;

// A thread must have bound the context before it calls anything of it.
#define CALL                                        \
    std::lock_guard<std::recursive_mutex> lock(mutex); \
    if (!bound) return INVALID_CONTEXT;

static size_t pages(size_t bytes) { return (bytes + PAGE - 1) / PAGE * PAGE; }

// Memory ends where nobody may read or write, so that a kernel that goes further ends the program. So does who uses what is free.
static Result allocate(Allocations &allocations, uint64_t *pointer, size_t bytes) {
    void *mapped = mmap(nullptr, pages(bytes) + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) return OUT_OF_MEMORY;
    char *end = static_cast<char *>(mapped) + pages(bytes);
    mprotect(end, PAGE, PROT_NONE);
    char *memory = end - (bytes + 15) / 16 * 16;
    // What is read before it is written shows: it is no number.
    memset(memory, 0xff, bytes);
    *pointer = reinterpret_cast<uint64_t>(memory);
    allocations[*pointer] = bytes;
    return SUCCESS;
}

static size_t release(Allocations &allocations, uint64_t pointer) {
    auto found = allocations.find(pointer);
    if (found == allocations.end()) misuse("memory that is not allocated is freed");
    const size_t bytes = found->second;
    munmap(reinterpret_cast<void *>(pointer / PAGE * PAGE), pages(bytes) + PAGE);
    allocations.erase(found);
    return bytes;
}

static Result allocate_on_device(uint64_t *pointer, size_t bytes) {
    if (bytes == 0) return *pointer = 0, SUCCESS;
    if (held + bytes > setting("FAKE_CUDA_BYTES", size_t(1) << 34)) return OUT_OF_MEMORY;
    held += bytes;
    return allocate(on_device, pointer, bytes);
}

// Whether so many bytes from here on lie inside one allocation.
static bool inside(const Allocations &allocations, uint64_t pointer, size_t bytes) {
    auto after = allocations.upper_bound(pointer);
    if (after == allocations.begin()) return bytes == 0;
    auto found = std::prev(after);
    return pointer + bytes <= found->first + found->second;
}

static uint64_t number(const void *pointer) { return reinterpret_cast<uint64_t>(pointer); }

static void copy(uint64_t to, uint64_t from, size_t bytes) {
    memcpy(reinterpret_cast<void *>(to), reinterpret_cast<void *>(from), bytes);
}

static Result to_device(uint64_t to, const void *from, size_t bytes, void *stream) {
    const auto check = [=] {
        if (!inside(on_device, to, bytes)) misuse("a copy to memory that is not the device's");
    };
    if (inside(page_locked, number(from), bytes)) {
        ask(stream, [=] { check(), copy(to, number(from), bytes); });
    } else {
        // Other memory is read at once, and the driver may make the host wait until it can be.
        host_waits++;
        std::vector<char> staged(static_cast<const char *>(from), static_cast<const char *>(from) + bytes);
        ask(stream, [=] { check(), copy(to, number(staged.data()), bytes); });
    }
    return SUCCESS;
}

static Result from_device(void *to, uint64_t from, size_t bytes, void *stream) {
    ask(stream, [=] {
        if (!inside(on_device, from, bytes)) misuse("a copy of memory that is not the device's");
        copy(number(to), from, bytes);
    });
    if (!inside(page_locked, number(to), bytes)) wait_for(end_of(stream));
    return SUCCESS;
}

static Result set(uint64_t pointer, unsigned char value, size_t bytes, void *stream) {
    ask(stream, [=] {
        if (!inside(on_device, pointer, bytes)) misuse("memory that is not the device's is set");
        memset(reinterpret_cast<void *>(pointer), value, bytes);
    });
    return SUCCESS;
}

static struct AtExit {
    ~AtExit() {
        const char *path = getenv("FAKE_CUDA_WAITS");
        FILE *file = path ? fopen(path, "w") : nullptr;
        if (file) fprintf(file, "%u\n", host_waits), fclose(file);
    }
} at_exit;

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
Result cuCtxSetCurrent(void *) { return bound = true, SUCCESS; }
Result cuCtxGetCurrent(void **context) { return *context = bound ? &held : nullptr, SUCCESS; }
Result cuGetErrorName(int, const char **name) { return *name = "an error", SUCCESS; }
Result cuGetErrorString(int, const char **text) { return *text = "of the driver that is none", SUCCESS; }
Result cuModuleLoadData(void **module, const void *) {
    CALL
    return *module = &KERNELS, SUCCESS;
}
Result cuModuleUnload(void *) {
    CALL
    if (streams[0].done < streams[0].asked) misuse("kernels are unloaded before they have run");
    return SUCCESS;
}
Result cuModuleGetFunction(const void **function, void *, const char *name) {
    CALL
    for (const Kernel &kernel : KERNELS)
        if (std::string(kernel.name) == name) return *function = &kernel, SUCCESS;
    return NOT_FOUND;
}
Result cuLaunchKernel(const void *function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                      unsigned block_y, unsigned block_z, unsigned, void *stream, void **arguments, void **) {
    if (const size_t us = setting("FAKE_CUDA_LAUNCH_US", 0)) usleep(us);
    CALL
    if (grid_x * grid_y * grid_z == 0 || block_x * block_y * block_z == 0 || block_x * block_y > 256) return INVALID_VALUE;
    if (grid_y > 65535 || grid_z != 1 || block_z != 1) return INVALID_VALUE;
    const Kernel &kernel = *static_cast<const Kernel *>(function);
    ask(stream, [=, waits = kernel.waits, body = kernel.bind(arguments)] {
        running = &body;
        grid_size = {grid_x, grid_y};
        block_size = {block_x, block_y};
        for (unsigned y = 0; y < grid_y; y++)
            for (unsigned x = 0; x < grid_x; x++) {
                block_index = {x, y};
                run_block(waits);
            }
    });
    return SUCCESS;
}
Result cuMemGetInfo_v2(size_t *free_bytes, size_t *total) {
    CALL
    *total = setting("FAKE_CUDA_BYTES", size_t(1) << 34);
    return *free_bytes = *total - held, SUCCESS;
}
Result cuMemAlloc_v2(uint64_t *pointer, size_t bytes) {
    CALL
    return allocate_on_device(pointer, bytes);
}
Result cuMemAllocAsync(uint64_t *pointer, size_t bytes, void *stream) {
    CALL
    // What the stream frees before is there to be given out.
    if (allocate_on_device(pointer, bytes) == SUCCESS) return SUCCESS;
    run_to(end_of(stream));
    return allocate_on_device(pointer, bytes);
}
Result cuMemFree_v2(uint64_t pointer) {
    CALL
    wait_for(end_of(nullptr));
    if (pointer) held -= release(on_device, pointer);
    return SUCCESS;
}
Result cuMemFreeAsync(uint64_t pointer, void *stream) {
    CALL
    ask(stream, [=] { held -= release(on_device, pointer); });
    return SUCCESS;
}
Result cuMemHostAlloc(void **pointer, size_t bytes, unsigned) {
    CALL
    return allocate(page_locked, reinterpret_cast<uint64_t *>(pointer), bytes);
}
Result cuMemFreeHost(void *pointer) {
    CALL
    release(page_locked, number(pointer));
    return SUCCESS;
}
Result cuMemsetD8_v2(uint64_t pointer, unsigned char value, size_t bytes) {
    CALL
    return set(pointer, value, bytes, nullptr);
}
Result cuMemsetD8Async(uint64_t pointer, unsigned char value, size_t bytes, void *stream) {
    CALL
    return set(pointer, value, bytes, stream);
}
Result cuMemcpyHtoD_v2(uint64_t to, const void *from, size_t bytes) {
    CALL
    const Result result = to_device(to, from, bytes, nullptr);
    wait_for(end_of(nullptr));
    return result;
}
Result cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t bytes, void *stream) {
    CALL
    return to_device(to, from, bytes, stream);
}
Result cuMemcpyDtoH_v2(void *to, uint64_t from, size_t bytes) {
    CALL
    const Result result = from_device(to, from, bytes, nullptr);
    wait_for(end_of(nullptr));
    return result;
}
Result cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t bytes, void *stream) {
    CALL
    return from_device(to, from, bytes, stream);
}
Result cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t bytes, void *stream) {
    CALL
    ask(stream, [=] {
        if (!inside(on_device, to, bytes) || !inside(on_device, from, bytes)) misuse("a copy of memory that is not the device's");
        copy(to, from, bytes);
    });
    return SUCCESS;
}
Result cuMemcpyDtoD_v2(uint64_t to, uint64_t from, size_t bytes) { return cuMemcpyDtoDAsync_v2(to, from, bytes, nullptr); }
Result cuStreamCreate(void **stream, unsigned flags) {
    CALL
    // Of a stream of the other kind, the null stream would wait for everything.
    if (flags != 1) return INVALID_VALUE;
    streams.push_back({getenv("FAKE_CUDA_EARLY") != nullptr, 0, 0, {}});
    return *stream = &streams.back(), SUCCESS;
}
// What it was asked for is still done.
Result cuStreamDestroy_v2(void *) { return SUCCESS; }
Result cuStreamSynchronize(void *stream) {
    CALL
    wait_for(end_of(stream));
    return SUCCESS;
}
Result cuStreamWaitEvent(void *stream, void *event, unsigned) {
    CALL
    ask(stream, [] {}, *static_cast<Place *>(event));
    return SUCCESS;
}
Result cuEventCreate(void **event, unsigned) {
    CALL
    return *event = new Place{nullptr, 0}, SUCCESS;
}
Result cuEventRecord(void *event, void *stream) {
    CALL
    *static_cast<Place *>(event) = end_of(stream);
    return SUCCESS;
}
Result cuEventSynchronize(void *event) {
    CALL
    wait_for(*static_cast<Place *>(event));
    return SUCCESS;
}
Result cuEventDestroy_v2(void *event) {
    CALL
    delete static_cast<Place *>(event);
    return SUCCESS;
}
}

// ---- cuBLAS ----

struct Blas {
    bool tf32;
};

// A factor as tensor cores take it.
static float rounded(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    bits = (bits + 0x1000) & ~0x1fffu;
    memcpy(&value, &bits, 4);
    return value;
}

// C (m, n) = alpha op(A) op(B) + beta C, every matrix column by column.
static void multiply(bool tf32, bool turn_a, bool turn_b, int m, int n, int k, float alpha, const float *a, int ld_a, const float *b,
                     int ld_b, float beta, float *c, int ld_c) {
    std::vector<float> columns(size_t(m) * k);
    for (int i = 0; i < m; i++)
        for (int p = 0; p < k; p++) {
            const float value = turn_a ? a[size_t(i) * ld_a + p] : a[size_t(p) * ld_a + i];
            columns[size_t(p) * m + i] = tf32 ? rounded(value) : value;
        }
    for (int j = 0; j < n; j++) {
        std::vector<float> sums(m, 0.0f);
        for (int p = 0; p < k; p++) {
            const float value = turn_b ? b[size_t(p) * ld_b + j] : b[size_t(j) * ld_b + p];
            const float factor = tf32 ? rounded(value) : value;
            const float *column = &columns[size_t(p) * m];
            for (int i = 0; i < m; i++) sums[i] += column[i] * factor;
        }
        // As cuBLAS: what is multiplied by nothing is not read.
        for (int i = 0; i < m; i++) {
            float &to = c[size_t(j) * ld_c + i];
            to = beta == 0 ? alpha * sums[i] : alpha * sums[i] + beta * to;
        }
    }
}

static bool fits(bool turned, int rows, int columns, int ld) { return ld >= (turned ? columns : rows); }

extern "C" {
int cublasCreate_v2(Blas **handle) { return *handle = new Blas{false}, 0; }
int cublasDestroy_v2(Blas *handle) { return delete handle, 0; }
int cublasSetStream_v2(Blas *, void *stream) { return stream ? 7 : 0; }
int cublasSetMathMode(Blas *handle, int mode) { return handle->tf32 = mode == 3, mode == 0 || mode == 3 ? 0 : 7; }
int cublasSgemm_v2(Blas *handle, int turn_a, int turn_b, int m, int n, int k, const float *alpha, const float *a, int ld_a,
                   const float *b, int ld_b, const float *beta, float *c, int ld_c) {
    std::lock_guard<std::recursive_mutex> lock(mutex);
    if (!fits(turn_a, m, k, ld_a) || !fits(turn_b, k, n, ld_b) || ld_c < m) return 7;
    ask(nullptr, [=, tf32 = handle->tf32, alpha = *alpha, beta = *beta] {
        multiply(tf32, turn_a, turn_b, m, n, k, alpha, a, ld_a, b, ld_b, beta, c, ld_c);
    });
    return 0;
}
int cublasSgemmBatched(Blas *handle, int turn_a, int turn_b, int m, int n, int k, const float *alpha, const float *const *a,
                       int ld_a, const float *const *b, int ld_b, const float *beta, float *const *c, int ld_c, int batch) {
    std::lock_guard<std::recursive_mutex> lock(mutex);
    if (!fits(turn_a, m, k, ld_a) || !fits(turn_b, k, n, ld_b) || ld_c < m) return 7;
    ask(nullptr, [=, tf32 = handle->tf32, alpha = *alpha, beta = *beta] {
        for (int i = 0; i < batch; i++)
            multiply(tf32, turn_a, turn_b, m, n, k, alpha, a[i], ld_a, b[i], ld_b, beta, c[i], ld_c);
    });
    return 0;
}
}
