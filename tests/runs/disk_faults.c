/* Faults of a disk, on purpose: an operation on files whose path matches a pattern fails with an error of the system.
 * Loaded by LD_PRELOAD, so that libraries in C++ and Rust meet it as Python does; set by set_fault().
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define WRITES (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC)

static char wanted[32], pattern[PATH_MAX];
static int number = 0, count = 0;

/* operation: open, write, sync, rename, mkdir or remove. error: errno, 0 for no fault. */
void set_fault(const char *operation, const char *path_pattern, int error) {
    snprintf(wanted, sizeof wanted, "%s", operation);
    snprintf(pattern, sizeof pattern, "%s", path_pattern);
    number = error;
    count = 0;
}

/* How often the fault was met. */
int num_faults(void) { return count; }

static int at_path(const char *operation, const char *path) {
    if (!number || strcmp(operation, wanted) || fnmatch(pattern, path, 0)) return 0;
    count++;
    errno = number;
    return 1;
}

static int at_link(const char *operation, const char *link, const char *name) {
    char path[2 * PATH_MAX];
    ssize_t length;
    if (!number) return 0;
    length = readlink(link, path, PATH_MAX - 1);
    if (length < 0) return at_path(operation, name);
    path[length] = 0;
    if (*name) snprintf(path + length, sizeof path - length, "/%s", name);
    return at_path(operation, path);
}

static int at_descriptor(const char *operation, int descriptor) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    return at_link(operation, link, "");
}

static int at_folder(const char *operation, int folder, const char *name) {
    char link[64];
    if (*name == '/') return at_path(operation, name);
    snprintf(link, sizeof link, folder == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", folder);
    return at_link(operation, link, name);
}

#define OPEN(name)                                                              \
    int name(const char *path, int flags, ...) {                                \
        va_list rest;                                                           \
        va_start(rest, flags);                                                  \
        mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0;               \
        va_end(rest);                                                           \
        if (flags & WRITES && at_folder("open", AT_FDCWD, path)) return -1;     \
        return REAL(name)(path, flags, mode);                                   \
    }
#define OPENAT(name)                                                            \
    int name(int folder, const char *path, int flags, ...) {                    \
        va_list rest;                                                           \
        va_start(rest, flags);                                                  \
        mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0;               \
        va_end(rest);                                                           \
        if (flags & WRITES && at_folder("open", folder, path)) return -1;       \
        return REAL(name)(folder, path, flags, mode);                           \
    }
#define FOPEN(name)                                                             \
    FILE *name(const char *path, const char *mode) {                            \
        if (strpbrk(mode, "wa+") && at_folder("open", AT_FDCWD, path)) return NULL; \
        return REAL(name)(path, mode);                                          \
    }

OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)
FOPEN(fopen)
FOPEN(fopen64)

ssize_t write(int descriptor, const void *content, size_t size) {
    return at_descriptor("write", descriptor) ? -1 : REAL(write)(descriptor, content, size);
}

ssize_t writev(int descriptor, const struct iovec *parts, int num_parts) {
    return at_descriptor("write", descriptor) ? -1 : REAL(writev)(descriptor, parts, num_parts);
}

ssize_t pwrite64(int descriptor, const void *content, size_t size, off64_t offset) {
    return at_descriptor("write", descriptor) ? -1 : REAL(pwrite64)(descriptor, content, size, offset);
}

int fsync(int descriptor) { return at_descriptor("sync", descriptor) ? -1 : REAL(fsync)(descriptor); }

int rename(const char *from, const char *to) {
    return at_folder("rename", AT_FDCWD, to) ? -1 : REAL(rename)(from, to);
}

int renameat(int from_folder, const char *from, int to_folder, const char *to) {
    return at_folder("rename", to_folder, to) ? -1 : REAL(renameat)(from_folder, from, to_folder, to);
}

int mkdir(const char *path, mode_t mode) {
    return at_folder("mkdir", AT_FDCWD, path) ? -1 : REAL(mkdir)(path, mode);
}

int unlink(const char *path) { return at_folder("remove", AT_FDCWD, path) ? -1 : REAL(unlink)(path); }

int unlinkat(int folder, const char *path, int flags) {
    return at_folder("remove", folder, path) ? -1 : REAL(unlinkat)(folder, path, flags);
}

int rmdir(const char *path) { return at_folder("remove", AT_FDCWD, path) ? -1 : REAL(rmdir)(path); }
