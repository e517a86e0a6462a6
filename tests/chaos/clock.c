/* Shifts the wall clock of the process that it is preloaded into, by seconds that stand in a file of its own.
 *
 * The monotonic clock stays as it is, as when a machine's clock is set. What waits until a time of the wall clock must
 * wait for the kernel's, so there the shift is taken out again; a time below 10^9 s is one of the monotonic clock.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile long *shift;

static void *next(const char *name)
{
    /* The newest of a name's versions, where there are several. */
    void *found = dlvsym(RTLD_NEXT, name, "GLIBC_2.3.2");
    return found ? found : dlsym(RTLD_NEXT, name);
}

static long by(void)
{
    return shift ? *shift : 0;
}

__attribute__((constructor)) static void map(void)
{
    const char *folder = getenv("CHAOS_CLOCKS");
    char path[4096];
    if (!folder || snprintf(path, sizeof path, "%s/%d", folder, getpid()) >= (int)sizeof path)
        return;
    int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (file < 0)
        return;
    if (ftruncate(file, sizeof *shift) == 0) {
        void *mapped = mmap(NULL, sizeof *shift, PROT_READ, MAP_SHARED, file, 0);
        if (mapped != MAP_FAILED)
            shift = mapped;
    }
    close(file);
}

int clock_gettime(clockid_t clock, struct timespec *at)
{
    static int (*real)(clockid_t, struct timespec *);
    if (!real)
        real = next("clock_gettime");
    int result = real(clock, at);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        at->tv_sec += by();
    return result;
}

int timespec_get(struct timespec *at, int base)
{
    return base == TIME_UTC && clock_gettime(CLOCK_REALTIME, at) == 0 ? base : 0;
}

int gettimeofday(struct timeval *at, void *zone)
{
    struct timespec now;
    (void)zone;
    int result = clock_gettime(CLOCK_REALTIME, &now);
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return result;
}

time_t time(time_t *at)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at)
        *at = now.tv_sec;
    return now.tv_sec;
}

static const struct timespec *kernels(const struct timespec *until, struct timespec *room)
{
    if (!until || until->tv_sec < 1000000000L)
        return until;
    *room = *until;
    room->tv_sec -= by();
    return room;
}

int pthread_cond_timedwait(pthread_cond_t *condition, pthread_mutex_t *mutex, const struct timespec *until)
{
    static int (*real)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
    struct timespec room;
    if (!real)
        real = next("pthread_cond_timedwait");
    return real(condition, mutex, kernels(until, &room));
}

int sem_timedwait(sem_t *semaphore, const struct timespec *until)
{
    static int (*real)(sem_t *, const struct timespec *);
    struct timespec room;
    if (!real)
        real = next("sem_timedwait");
    return real(semaphore, kernels(until, &room));
}

long syscall(long number, ...)
{
    static long (*real)(long, ...);
    long given[6];
    struct timespec room;
    va_list list;
    va_start(list, number);
    for (int i = 0; i < 6; i++)
        given[i] = va_arg(list, long);
    va_end(list);
    if (!real)
        real = next("syscall");
    if (number == SYS_futex && (given[1] & FUTEX_CLOCK_REALTIME))
        given[3] = (long)kernels((const struct timespec *)given[3], &room);
    return real(number, given[0], given[1], given[2], given[3], given[4], given[5]);
}
