/* Preloaded into the benchmark: counts fsync and fdatasync, and makes each last at least STEADY_US microseconds, so that runs on a
   machine with noisy neighbours compare. With STEADY_US=0 it only counts. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <time.h>

static long calls;

static int flush(const char *name, int (**real)(int), int fd) {
    static long least = -1;
    struct timespec until;
    if (!*real) *real = (int (*)(int))dlsym(RTLD_NEXT, name);
    if (least < 0) least = getenv("STEADY_US") ? atol(getenv("STEADY_US")) : 0;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += (least % 1000000) * 1000;
    until.tv_sec += least / 1000000 + until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    int result = (*real)(fd);
    __atomic_add_fetch(&calls, 1, __ATOMIC_RELAXED);
    if (least > 0)
        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR) {}
    return result;
}

int fsync(int fd) { static int (*real)(int); return flush("fsync", &real, fd); }
int fdatasync(int fd) { static int (*real)(int); return flush("fdatasync", &real, fd); }
long steady_calls(void) { return __atomic_load_n(&calls, __ATOMIC_RELAXED); }
