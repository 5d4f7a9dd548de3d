/* A target's clock, disk, process limit and C library, made worse than they are: see shim.py.
 *
 * What is wrong stands in a file that the tests write and every process here has mapped. The wall
 * clock is off by `offset`; what is written to a file takes `write_pause` longer, and what makes it
 * durable or visible `sync_pause`. Reads are left alone: without them no interpreter starts. Of 100
 * forks `no_fork` fail as at a process limit. Where `musl` is set, signals are what they are there.
 *
 * Calls go to the kernel directly: a libc older than the one this was built with has to take it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define BILLION 1000000000L

struct wrongs {
    int64_t offset;      /* nanoseconds, as the others */
    int64_t write_pause;
    int64_t sync_pause;
    int64_t no_fork;     /* percent */
    int64_t musl;        /* 0 or 1 */
};

static const volatile struct wrongs none;
static const volatile struct wrongs *wrongs = &none;

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("TESTBED_WRONGS");
    int fd = path ? syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    void *at = mmap(NULL, sizeof *wrongs, PROT_READ, MAP_SHARED, fd, 0);
    syscall(SYS_close, fd);
    if (at != MAP_FAILED)
        wrongs = at;
}

/* The wall clock. Others (monotonic, CPU time) cannot be set, and are right. */

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int failed = syscall(SYS_clock_gettime, clock, now);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        int64_t sum = now->tv_sec * BILLION + now->tv_nsec + wrongs->offset;
        now->tv_sec = sum / BILLION;
        now->tv_nsec = sum % BILLION;
    }
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    struct timespec precise;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &precise);
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *result)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (result)
        *result = now.tv_sec;
    return now.tv_sec;
}

/* The disk. Like one, it is not interrupted by signals, SIGKILL excepted. */

static void pause_for(int64_t length)
{
    struct timespec left = {length / BILLION, length % BILLION};
    int error = errno;
    if (length > 0)
        while (syscall(SYS_nanosleep, &left, &left) && errno == EINTR)
            ;
    errno = error;
}

static void pause_at(int fd, int64_t length)
{
    struct stat found;
    if (length > 0 && !fstat(fd, &found) && S_ISREG(found.st_mode))
        pause_for(length);
}

ssize_t write(int fd, const void *data, size_t size)
{
    pause_at(fd, wrongs->write_pause);
    return syscall(SYS_write, fd, data, size);
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    pause_at(fd, wrongs->write_pause);
    return syscall(SYS_writev, fd, parts, count);
}

int fsync(int fd)
{
    pause_for(wrongs->sync_pause);
    return syscall(SYS_fsync, fd);
}

int fdatasync(int fd)
{
    pause_for(wrongs->sync_pause);
    return syscall(SYS_fdatasync, fd);
}

int renameat(int from_fd, const char *from, int to_fd, const char *to)
{
    pause_for(wrongs->sync_pause);
    return syscall(SYS_renameat2, from_fd, from, to_fd, to, 0);
}

int rename(const char *from, const char *to)
{
    return renameat(AT_FDCWD, from, AT_FDCWD, to);
}

/* The process limit. */

extern pid_t __fork(void);
extern int __sigaction(int, const struct sigaction *, struct sigaction *);

pid_t fork(void)
{
    struct timespec now;
    if (wrongs->no_fork) {
        syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
        if (now.tv_nsec / 10 % 100 < wrongs->no_fork) {
            errno = EAGAIN;
            return -1;
        }
    }
    return __fork();
}

pid_t vfork(void)
{
    return fork();
}

/* The C library: musl keeps three signals to itself, one more than glibc. */

static int refused(int number)
{
    return wrongs->musl && number >= 32 && number <= 34;
}

int sigaction(int number, const struct sigaction *restrict new, struct sigaction *restrict old)
{
    if (refused(number)) {
        errno = EINVAL;
        return -1;
    }
    return __sigaction(number, new, old);
}

int sigfillset(sigset_t *set)
{
    uint64_t own = (uint64_t)3 << 31; /* glibc's, 32 and 33 */
    if (wrongs->musl)
        own |= (uint64_t)1 << 33;
    memset(set, 0xff, sizeof *set);
    ((uint64_t *)set)[0] &= ~own;
    return 0;
}

int sigaddset(sigset_t *set, int number)
{
    if (number < 1 || number > 64 || refused(number)) {
        errno = EINVAL;
        return -1;
    }
    ((uint64_t *)set)[0] |= (uint64_t)1 << (number - 1);
    return 0;
}
