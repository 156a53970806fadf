/*
 * nbd_real.h: real NBD servers for tests, on one socket, one at a time.  They die with this process.
 */
#ifndef NTX_NBD_REAL_H
#define NTX_NBD_REAL_H

#include "nbd_peer.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#define MAX_ARGUMENTS 24
#define START_MS 60000

static char directory[] = "/tmp/ntx-nbd-XXXXXX";
static char socket_path[64], file_path[64];

static inline bool is_installed(const char *program)
{
    const char *path = getenv("PATH");
    char candidate[512];

    while (path != NULL && *path != '\0') {
        size_t length = strcspn(path, ":");
        snprintf(candidate, sizeof candidate, "%.*s/%s", (int)length, path, program);
        if (access(candidate, X_OK) == 0)
            return true;
        path += length + (path[length] == ':');
    }
    return false;
}

static inline pid_t start(const char *const *arguments)
{
    pid_t parent = getpid(), pid;

    unlink(socket_path);
    pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(1);
        execvp(arguments[0], (char *const *)arguments);
        _exit(127);
    }
    return pid;
}

static inline void stop(pid_t pid)
{
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

/* nbdkit on our socket. */
static inline pid_t start_nbdkit(const char *const *arguments)
{
    const char *all[MAX_ARGUMENTS] = {"nbdkit", "-f", "-U", socket_path};
    unsigned count = 4;

    while (*arguments != NULL && count < MAX_ARGUMENTS - 1)
        all[count++] = *arguments++;
    return start(all);
}

/* Open as soon as the server listens; -ENOENT and -ECONNREFUSED mean that it does not yet. */
static inline int open_when_ready(pid_t pid, const char *export_name, enum ntx_open_mode mode,
                                  struct ntx_device **device, struct ntx_error *err)
{
    for (unsigned waited_ms = 0;; waited_ms += 10) {
        int result = open_unix(socket_path, export_name, mode, START_MS, device, err);
        if (result == 0 || err->class != NTX_E_DEVICE || waited_ms > START_MS)
            return result;
        CHECK(waitpid(pid, NULL, WNOHANG) == 0);
        poll(NULL, 0, 10);
    }
}

static inline struct ntx_device *open_server(pid_t pid, enum ntx_open_mode mode)
{
    struct ntx_device *device;
    struct ntx_error err = {0};

    CHECK_OK(open_when_ready(pid, "", mode, &device, &err), err);
    return device;
}

#define NBDKIT(...) start_nbdkit((const char *const[]){__VA_ARGS__, NULL})

static inline void remove_files(void)
{
    unlink(socket_path);
    unlink(file_path);
    rmdir(directory);
}

/* A folder for the socket and a file, until the end of the process. */
static inline void make_folder(void)
{
    CHECK(mkdtemp(directory) != NULL);
    atexit(remove_files);
    snprintf(socket_path, sizeof socket_path, "%s/nbd.sock", directory);
    snprintf(file_path, sizeof file_path, "%s/disk.raw", directory);
}

#endif
