// Streams of a device, and what waits in them.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <functional>
#include <mutex>

typedef std::function<void()> Work;

// What a stream is asked for is done as late as it can be: when the host waits for it, or what the host waits for does. So
// whoever forgets to wait sees what was there before. A device may also be ahead with its copies; FAKE_CUDA_EARLY is for that.

static void misuse(const char *what) {
    fprintf(stderr, "the driver was misused: %s\n", what);
    abort();
}

struct Stream;

// So many operations of a stream.
struct Place {
    Stream *stream;
    uint64_t operations;
};

struct Operation {
    // What must be done before, if anything.
    Place after;
    Work run;
};

struct Stream {
    bool early;
    uint64_t asked, done;
    std::deque<Operation> waiting;
};

static std::recursive_mutex mutex;
// The null stream, which kernels are on, is the first.
static std::deque<Stream> streams(1);
static unsigned host_waits;

static void run_to(Place place) {
    while (place.stream && place.stream->done < place.operations) {
        Stream &stream = *place.stream;
        Operation operation = std::move(stream.waiting.front());
        stream.waiting.pop_front();
        run_to(operation.after);
        operation.run();
        stream.done++;
    }
}

static Stream &stream_of(void *handle) { return handle ? *static_cast<Stream *>(handle) : streams[0]; }
static Place end_of(void *handle) { return {&stream_of(handle), stream_of(handle).asked}; }

static void ask(void *handle, Work run, Place after = {nullptr, 0}) {
    Stream &asked = stream_of(handle);
    asked.asked++;
    asked.waiting.push_back({after, std::move(run)});
    for (Stream &stream : streams)
        while (stream.early && !stream.waiting.empty()) {
            const Place before = stream.waiting.front().after;
            if (before.stream && before.stream->done < before.operations) break;
            run_to({&stream, stream.done + 1});
        }
}

// The host waits: nothing that it has read or will read is still being written.
static void wait_for(Place place) {
    host_waits++;
    run_to(place);
}
