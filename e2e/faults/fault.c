/*
 * Makes writing fail the way disks do. Loaded with LD_PRELOAD into the sidecar only.
 *
 * FAULT_PREFIX   files whose path begins with this are affected
 * FAULT_CONTROL  a file that says what happens at each write or sync of such a file:
 *                  ok        nothing
 *                  eio       fails with EIO
 *                  enospc    writes and allocations fail with ENOSPC; syncs succeed
 *                  syncfail  only fsync and fdatasync fail, with EIO
 *                  stall     waits until the file says something else
 *                  kill N    the N-th affected call from then on ends the process by SIGKILL,
 *                            before the call takes effect
 * The file is read at every affected call, so a test changes it while the process runs.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum kind { WRITE, SYNC };

static atomic_long calls;

static int affected(int fd) {
    const char *prefix = getenv("FAULT_PREFIX");
    char link[64], path[4096];
    if (!prefix)
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = syscall(SYS_readlinkat, AT_FDCWD, link, path, sizeof path - 1);
    if (n <= 0)
        return 0;
    path[n] = 0;
    return strncmp(path, prefix, strlen(prefix)) == 0;
}

static void control(char *text, size_t size) {
    const char *name = getenv("FAULT_CONTROL");
    text[0] = 0;
    if (!name)
        return;
    int fd = syscall(SYS_openat, AT_FDCWD, name, O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0)
        return;
    ssize_t n = syscall(SYS_read, fd, text, size - 1);
    syscall(SYS_close, fd);
    text[n > 0 ? n : 0] = 0;
}

/* 0, or the errno that the call must fail with. */
static int verdict(int fd, enum kind kind) {
    char text[64];
    if (!affected(fd))
        return 0;
    for (;;) {
        control(text, sizeof text);
        if (strncmp(text, "eio", 3) == 0)
            return EIO;
        if (strncmp(text, "enospc", 6) == 0)
            return kind == WRITE ? ENOSPC : 0;
        if (strncmp(text, "syncfail", 8) == 0)
            return kind == SYNC ? EIO : 0;
        if (strncmp(text, "kill ", 5) == 0) {
            if (atomic_fetch_add(&calls, 1) + 1 >= atol(text + 5))
                syscall(SYS_kill, getpid(), SIGKILL);
            return 0;
        }
        if (strncmp(text, "stall", 5) != 0)
            return 0;
        struct timespec step = {0, 2 * 1000 * 1000};
        nanosleep(&step, NULL);
    }
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define GUARD(fd, kind)                                                                            \
    do {                                                                                           \
        int fault = verdict(fd, kind);                                                             \
        if (fault) {                                                                               \
            errno = fault;                                                                         \
            return -1;                                                                             \
        }                                                                                          \
    } while (0)

ssize_t write(int fd, const void *data, size_t size) {
    GUARD(fd, WRITE);
    return REAL(write)(fd, data, size);
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    GUARD(fd, WRITE);
    return REAL(writev)(fd, parts, count);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
    GUARD(fd, WRITE);
    return REAL(pwrite)(fd, data, size, at);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    GUARD(fd, WRITE);
    return REAL(pwrite64)(fd, data, size, at);
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t at) {
    GUARD(fd, WRITE);
    return REAL(pwritev)(fd, parts, count, at);
}

ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t at) {
    GUARD(fd, WRITE);
    return REAL(pwritev64)(fd, parts, count, at);
}

int fsync(int fd) {
    GUARD(fd, SYNC);
    return REAL(fsync)(fd);
}

int fdatasync(int fd) {
    GUARD(fd, SYNC);
    return REAL(fdatasync)(fd);
}

int fallocate(int fd, int mode, off_t from, off_t length) {
    GUARD(fd, WRITE);
    return REAL(fallocate)(fd, mode, from, length);
}

int fallocate64(int fd, int mode, off64_t from, off64_t length) {
    GUARD(fd, WRITE);
    return REAL(fallocate64)(fd, mode, from, length);
}

/* These two give their error as the result. */
int posix_fallocate(int fd, off_t from, off_t length) {
    int fault = verdict(fd, WRITE);
    return fault ? fault : REAL(posix_fallocate)(fd, from, length);
}

int posix_fallocate64(int fd, off64_t from, off64_t length) {
    int fault = verdict(fd, WRITE);
    return fault ? fault : REAL(posix_fallocate64)(fd, from, length);
}
