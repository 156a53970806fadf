/*
 * filesystem.c: loaded before libc, it is a file system that lacks something.  FS_LACKS says what:
 *
 *     FOLDER CALL=ERRNO CALL=ERRNO ...      calls on files below FOLDER fail so
 *
 * CALL is link, rename-new (RENAME_NOREPLACE), rename-over (onto what exists), fsync, fsync-folder, chmod, flock, lock
 * (POSIX and OFD), seek-data, open-folder (for reading), tmpfile (O_TMPFILE) or map-shared.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

/* Whether `call` on `path` fails, with errno set. */
static bool lacks(const char *call, const char *path)
{
    const char *plan = getenv("FS_LACKS"), *space = plan != NULL ? strchr(plan, ' ') : NULL;
    char absolute[PATH_MAX], wanted[64];

    if (space == NULL || realpath(path, absolute) == NULL)
        return false;
    size_t length = (size_t)(space - plan);
    if (strncmp(absolute, plan, length) != 0 || (absolute[length] != '/' && absolute[length] != '\0'))
        return false;
    snprintf(wanted, sizeof wanted, " %s=", call);
    const char *found = strstr(space, wanted);
    if (found == NULL)
        return false;
    errno = atoi(found + strlen(wanted));
    return true;
}

static bool fd_lacks(const char *call, int fd)
{
    char link[64];

    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    return lacks(call, link);
}

int link(const char *old, const char *new)
{
    return lacks("link", old) ? -1 : REAL(link)(old, new);
}

int linkat(int from, const char *old, int to, const char *new, int flags)
{
    return lacks("link", old) ? -1 : REAL(linkat)(from, old, to, new, flags);
}

int rename(const char *old, const char *new)
{
    return access(new, F_OK) == 0 && lacks("rename-over", old) ? -1 : REAL(rename)(old, new);
}

int renameat2(int from, const char *old, int to, const char *new, unsigned flags)
{
    return flags != 0 && lacks("rename-new", old) ? -1 : REAL(renameat2)(from, old, to, new, flags);
}

int fsync(int fd)
{
    struct stat status;
    bool is_folder = fstat(fd, &status) == 0 && S_ISDIR(status.st_mode);

    return fd_lacks(is_folder ? "fsync-folder" : "fsync", fd) ? -1 : REAL(fsync)(fd);
}

int fdatasync(int fd)
{
    return fd_lacks("fsync", fd) ? -1 : REAL(fdatasync)(fd);
}

int chmod(const char *path, mode_t mode)
{
    return lacks("chmod", path) ? -1 : REAL(chmod)(path, mode);
}

int fchmod(int fd, mode_t mode)
{
    return fd_lacks("chmod", fd) ? -1 : REAL(fchmod)(fd, mode);
}

int fchmodat(int folder, const char *path, mode_t mode, int flags)
{
    return lacks("chmod", path) ? -1 : REAL(fchmodat)(folder, path, mode, flags);
}

int flock(int fd, int operation)
{
    return fd_lacks("flock", fd) ? -1 : REAL(flock)(fd, operation);
}

static bool is_lock(int command)
{
    return command == F_GETLK || command == F_SETLK || command == F_SETLKW || command == F_OFD_GETLK ||
           command == F_OFD_SETLK || command == F_OFD_SETLKW;
}

int fcntl(int fd, int command, ...)
{
    va_list arguments;

    va_start(arguments, command);
    void *argument = va_arg(arguments, void *);
    va_end(arguments);
    return is_lock(command) && fd_lacks("lock", fd) ? -1 : REAL(fcntl)(fd, command, argument);
}

int fcntl64(int fd, int command, ...)
{
    va_list arguments;

    va_start(arguments, command);
    void *argument = va_arg(arguments, void *);
    va_end(arguments);
    return is_lock(command) && fd_lacks("lock", fd) ? -1 : REAL(fcntl64)(fd, command, argument);
}

off_t lseek(int fd, off_t offset, int whence)
{
    return (whence == SEEK_DATA || whence == SEEK_HOLE) && fd_lacks("seek-data", fd) ? -1
                                                                                     : REAL(lseek)(fd, offset, whence);
}

off64_t lseek64(int fd, off64_t offset, int whence)
{
    return (whence == SEEK_DATA || whence == SEEK_HOLE) && fd_lacks("seek-data", fd)
               ? -1
               : REAL(lseek64)(fd, offset, whence);
}

int open64(const char *path, int flags, ...)
{
    va_list arguments;

    va_start(arguments, flags);
    mode_t mode = (flags & (O_CREAT | __O_TMPFILE)) != 0 ? va_arg(arguments, mode_t) : 0;
    va_end(arguments);
    if ((flags & O_TMPFILE) == O_TMPFILE ? lacks("tmpfile", path)
                                         : (flags & O_DIRECTORY) != 0 && lacks("open-folder", path))
        return -1;
    int fd = REAL(open64)(path, flags, mode);
    /* Where modes cannot be changed, there are none: the mount says what every file has. */
    if (fd >= 0 && (flags & O_CREAT) != 0 && fd_lacks("chmod", fd))
        REAL(fchmod)(fd, 0644);
    return fd;
}

void *mmap64(void *address, size_t length, int protection, int flags, int fd, off64_t offset)
{
    return (flags & MAP_SHARED) != 0 && fd >= 0 && fd_lacks("map-shared", fd)
               ? MAP_FAILED
               : REAL(mmap64)(address, length, protection, flags, fd, offset);
}
