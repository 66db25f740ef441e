/* Kills the process at a system call that changes something below a folder; of a write, after half of its bytes.
 *
 *     cc -shared -fPIC -O1 -o kill_at_call.so kill_at_call.c -ldl      LD_PRELOAD=./kill_at_call.so python ...
 *
 * Idle until kill_at_call_arm(). Python announces what it does itself (sys.addaudithook); safetensors, tokenizers and
 * torch write by themselves, and only here is it seen.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define WRITES (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC)

static char folder[PATH_MAX];
static size_t length;
static long kill_at, count;
static int record = -1;

/* Count a moment; true if it is the one at which the process is to be killed. */
static int reach(const char *what, const char *name) {
    char line[PATH_MAX + 64];
    int size = snprintf(line, sizeof line, "%s%s%s\n", what, *name ? " " : "", name);
    if (REAL(write)(record, line, size) != size) return 0;
    return ++count == kill_at;
}

static void die(void) { kill(getpid(), SIGKILL); pause(); }

/* Count a moment of the test's own, such as a step. */
void kill_at_call_reach(const char *name) { if (record >= 0 && reach(name, "")) die(); }

/* From now on kill at the number-th moment below `path` (0: never); the name of each goes to descriptor `names`. */
void kill_at_call_arm(const char *path, long number, int names) {
    snprintf(folder, sizeof folder, "%s", path);
    length = strlen(folder);
    kill_at = number, count = 0, record = names;
}

/* The part of a path below the folder, or NULL. at: descriptor of the folder that a relative path starts from. */
static const char *below(int at, const char *path, char *whole) {
    if (record < 0 || !path) return NULL;
    if (path[0] == '/') {
        snprintf(whole, PATH_MAX, "%s", path);
    } else {
        char link[64];
        ssize_t size = 0;
        snprintf(link, sizeof link, "/proc/self/fd/%d", at);
        if (at == AT_FDCWD) {
            if (!getcwd(whole, PATH_MAX)) return NULL;
            size = strlen(whole);
        } else if ((size = readlink(link, whole, PATH_MAX - 1)) < 0) {
            return NULL;
        }
        snprintf(whole + size, PATH_MAX - size, "%s%s", *path ? "/" : "", path);
    }
    if (strncmp(whole, folder, length) || (whole[length] && whole[length] != '/')) return NULL;
    return whole[length] ? whole + length + 1 : ".";
}

static void change(const char *what, int at, const char *path) {
    char whole[PATH_MAX];
    const char *name = below(at, path, whole);
    if (name && reach(what, name)) die();
}

static int is_torn(const char *what, int file) {
    char whole[PATH_MAX];
    const char *name = below(file, "", whole);
    return name && reach(what, name);
}

ssize_t write(int file, const void *data, size_t size) {
    if (record >= 0 && file > 2 && file != record && is_torn("write", file)) {
        REAL(write)(file, data, size / 2);
        die();
    }
    return REAL(write)(file, data, size);
}

ssize_t writev(int file, const struct iovec *parts, int number) {
    if (record >= 0 && file > 2 && is_torn("write", file)) {
        REAL(write)(file, parts[0].iov_base, parts[0].iov_len / 2);
        die();
    }
    return REAL(writev)(file, parts, number);
}

static void opens(int at, const char *path, int flags) { if (flags & WRITES) change("open", at, path); }

#define MODE(flags) \
    mode_t mode = 0; \
    if (flags & (O_CREAT | O_TMPFILE)) { va_list rest; va_start(rest, flags); mode = va_arg(rest, mode_t); va_end(rest); }

int open(const char *path, int flags, ...) { MODE(flags) opens(AT_FDCWD, path, flags); return REAL(open)(path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags) opens(AT_FDCWD, path, flags); return REAL(open64)(path, flags, mode); }
int openat(int at, const char *path, int flags, ...) { MODE(flags) opens(at, path, flags); return REAL(openat)(at, path, flags, mode); }
int openat64(int at, const char *path, int flags, ...) { MODE(flags) opens(at, path, flags); return REAL(openat64)(at, path, flags, mode); }
FILE *fopen(const char *path, const char *mode) { opens(AT_FDCWD, path, mode[0] == 'r' && !strchr(mode, '+') ? 0 : O_WRONLY); return REAL(fopen)(path, mode); }
FILE *fopen64(const char *path, const char *mode) { opens(AT_FDCWD, path, mode[0] == 'r' && !strchr(mode, '+') ? 0 : O_WRONLY); return REAL(fopen64)(path, mode); }
int rename(const char *from, const char *to) { change("rename", AT_FDCWD, from); return REAL(rename)(from, to); }
int renameat(int at, const char *from, int there, const char *to) { change("rename", at, from); return REAL(renameat)(at, from, there, to); }
int unlink(const char *path) { change("remove", AT_FDCWD, path); return REAL(unlink)(path); }
int unlinkat(int at, const char *path, int flags) { change("remove", at, path); return REAL(unlinkat)(at, path, flags); }
int rmdir(const char *path) { change("rmdir", AT_FDCWD, path); return REAL(rmdir)(path); }
int mkdir(const char *path, mode_t mode) { if (access(path, F_OK)) change("mkdir", AT_FDCWD, path); return REAL(mkdir)(path, mode); }
int fsync(int file) { change("fsync", file, ""); return REAL(fsync)(file); }
int ftruncate64(int file, off64_t size) { change("truncate", file, ""); return REAL(ftruncate64)(file, size); }
