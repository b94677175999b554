/* Makes the n-th change below one folder fail, or kills or stops the process there.
 *
 * Loaded with LD_PRELOAD; it stands before the C library's calls that change files, and it sees what Python, torch and
 * Rust (safetensors, tokenizers) do alike. One call passes the library by: safetensors' tempfile renames through a raw
 * renameat, which a seccomp filter hands to a signal handler here (x86-64 only; elsewhere it is not seen). Calls outside
 * the armed folder are never touched nor counted. What was counted lies in memory shared with the parent, so that it
 * outlives a process that was killed.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <ucontext.h>
#include <unistd.h>

enum { COUNT, ONCE, ALWAYS, TORN, BEFORE, AFTER, GONE, STOP };
enum { PASS, FAIL, HALF };
#define CALLS 4096

struct shared {
    long count;
    struct { char call[12]; char path[244]; } calls[CALLS];
};

static struct shared at_first, *shared = &at_first; /* libraries open files before `start` runs */
static char root[PATH_MAX];
static size_t root_length;
static long wanted;
static int mode, error;

#define REAL(name) __typeof__(name) *real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

__attribute__((constructor)) static void start(void) {
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}

struct shared *fault_shared(void) { return shared; }

static void die(void) {
    kill(getpid(), SIGKILL);
    pause();
}

static int below(const char *path) {
    return root_length && !strncmp(path, root, root_length) && (path[root_length] == '/' || !path[root_length]);
}

/* The whole path of `name` seen from the folder `at`; of `at` itself when there is no name. */
static void resolve(int at, const char *name, char *whole) {
    char link[40];
    ssize_t length = 0;
    if (!name || name[0] != '/') {
        snprintf(link, sizeof link, at == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", at);
        length = readlink(link, whole, PATH_MAX - 1);
        if (length < 0) length = 0;
    }
    snprintf(whole + length, PATH_MAX - length, "%s%s", name && length ? "/" : "", name ? name : "");
}

static int removes(const char *call) { return !strcmp(call, "unlink") || !strcmp(call, "rmdir"); }

/* Count this change when it lies below the armed folder, and say what shall become of it. */
static int change(const char *call, int at, const char *name, int writes) {
    char whole[PATH_MAX] = "", away[PATH_MAX + 8];
    if (!root_length) return PASS;
    resolve(at, name, whole);
    if (!below(whole)) return PASS;
    long number = __atomic_add_fetch(&shared->count, 1, __ATOMIC_SEQ_CST);
    if (number <= CALLS) {
        snprintf(shared->calls[number - 1].call, sizeof shared->calls[0].call, "%s", call);
        snprintf(shared->calls[number - 1].path, sizeof shared->calls[0].path, "%s", whole + root_length);
    }
    if (!wanted || number < wanted) return PASS;
    if (mode == ALWAYS) {
        if (error == ENOSPC && removes(call)) return PASS; /* a full disk lets one delete */
        return error == ENOSPC && writes && number == wanted ? HALF : FAIL;
    }
    if (number > wanted) return PASS;
    if (mode == GONE) {
        snprintf(away, sizeof away, "%s.gone", root);
        REAL(rename);
        real(root, away);
    }
    if (mode == BEFORE) die();
    if (mode == TORN && writes) return HALF;
    return mode == ONCE ? FAIL : PASS;
}

/* Behind a change that was let through: the place to be killed after it, or to be stopped until SIGCONT. */
static int done(int before, int result) {
    if (wanted && shared->count == wanted && before != (int)wanted) {
        if (mode == AFTER) die();
        if (mode == STOP) kill(getpid(), SIGSTOP);
    }
    return result;
}

#define GUARD(call, at, name, ...)                           \
    int before = shared->count;                              \
    if (change(call, at, name, 0) == FAIL) {                 \
        errno = error;                                       \
        return -1;                                           \
    }                                                        \
    return done(before, real(__VA_ARGS__))

#define WRITE(fd, bytes, size, ...)                                              \
    int before = shared->count, verdict = change("write", fd, NULL, size > 1);   \
    if (verdict == FAIL) {                                                       \
        errno = error;                                                           \
        return -1;                                                               \
    }                                                                            \
    ssize_t written = real(fd, bytes, verdict == HALF ? size / 2 : size __VA_ARGS__); \
    if (verdict == HALF && mode == TORN) die();                                  \
    done(before, 0);                                                             \
    return written

ssize_t write(int fd, const void *bytes, size_t size) { REAL(write); WRITE(fd, bytes, size, ); }
ssize_t pwrite64(int fd, const void *bytes, size_t size, off64_t offset) {
    REAL(pwrite64);
    WRITE(fd, bytes, size, , offset);
}
ssize_t pwrite(int fd, const void *bytes, size_t size, off_t offset) { return pwrite64(fd, bytes, size, offset); }

int fsync(int fd) { REAL(fsync); GUARD("fsync", fd, NULL, fd); }
int fdatasync(int fd) { REAL(fdatasync); GUARD("fsync", fd, NULL, fd); }
int ftruncate(int fd, off_t size) { REAL(ftruncate); GUARD("truncate", fd, NULL, fd, size); }
int ftruncate64(int fd, off64_t size) { REAL(ftruncate64); GUARD("truncate", fd, NULL, fd, size); }
int rename(const char *from, const char *to) { REAL(rename); GUARD("rename", AT_FDCWD, to, from, to); }
int renameat2(int a, const char *from, int b, const char *to, unsigned flags) {
    REAL(renameat2);
    GUARD("rename", b, to, a, from, b, to, flags);
}
int mkdir(const char *path, mode_t rights) { REAL(mkdir); GUARD("mkdir", AT_FDCWD, path, path, rights); }
int mkdirat(int at, const char *path, mode_t rights) { REAL(mkdirat); GUARD("mkdir", at, path, at, path, rights); }
int unlink(const char *path) { REAL(unlink); GUARD("unlink", AT_FDCWD, path, path); }
int rmdir(const char *path) { REAL(rmdir); GUARD("rmdir", AT_FDCWD, path, path); }
int unlinkat(int at, const char *path, int flags) {
    REAL(unlinkat);
    GUARD(flags & AT_REMOVEDIR ? "rmdir" : "unlink", at, path, at, path, flags);
}

#define OPEN(at, path, ...)                                                      \
    mode_t rights = 0;                                                           \
    if (flags & (O_CREAT | O_TMPFILE)) {                                         \
        va_list more;                                                            \
        va_start(more, flags);                                                   \
        rights = va_arg(more, mode_t);                                           \
        va_end(more);                                                            \
    }                                                                            \
    if (!(flags & (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC))) return real(__VA_ARGS__); \
    GUARD("open", at, path, __VA_ARGS__)

int open(const char *path, int flags, ...) { REAL(open); OPEN(AT_FDCWD, path, path, flags, rights); }
int open64(const char *path, int flags, ...) { REAL(open64); OPEN(AT_FDCWD, path, path, flags, rights); }
int openat(int at, const char *path, int flags, ...) { REAL(openat); OPEN(at, path, at, path, flags, rights); }
int openat64(int at, const char *path, int flags, ...) { REAL(openat64); OPEN(at, path, at, path, flags, rights); }

#ifdef __x86_64__
/* A raw renameat: counted here, then done by its twin, which the filter lets through. */
static void renamed(int signal, siginfo_t *info, void *context) {
    greg_t *r = ((ucontext_t *)context)->uc_mcontext.gregs;
    int before = shared->count, kept = errno;
    (void)signal, (void)info;
    if (change("rename", r[REG_RDX], (const char *)r[REG_R10], 0) == FAIL) {
        r[REG_RAX] = -error;
    } else {
        long result = syscall(SYS_renameat2, r[REG_RDI], r[REG_RSI], r[REG_RDX], r[REG_R10], 0);
        r[REG_RAX] = result < 0 ? -errno : result;
        done(before, 0);
    }
    errno = kept;
}

static void catch_raw_renames(void) {
    struct sock_filter lines[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_renameat, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof lines / sizeof *lines, lines};
    struct sigaction action = {.sa_sigaction = renamed, .sa_flags = SA_SIGINFO};
    sigaction(SIGSYS, &action, NULL);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) perror("fault_shim: seccomp");
}
#else
static void catch_raw_renames(void) {}
int renameat(int a, const char *from, int b, const char *to) { REAL(renameat); GUARD("rename", b, to, a, from, b, to); }
#endif

/* From now on count; at change `at` (from 1; 0 for never) do `how`. A failure is told as error number `number`. Once in
 * a process. */
void fault_arm(const char *folder, long at, int how, int number) {
    shared->count = 0;
    if (!*folder) return;
    catch_raw_renames();
    wanted = at, mode = how, error = number;
    root_length = strlen(strcpy(root, folder));
}
