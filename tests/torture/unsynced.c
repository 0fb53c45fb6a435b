/* Preloaded into a server: keeps, beside its data, what a disk would hold after the power failed.
 *
 * Only what was synced is certain. At fsync or fdatasync of a file its bytes are copied under its identity (inode
 * and time of birth); at fsync of a folder its entries are listed. The copy is made before the caller learns
 * that the sync is done. While the file $UNSYNCED/broken is there, syncs fail with EIO.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef int (*sync_call)(int);
static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;

static int identity(int folder, const char *name, int flags, char *text, size_t size, mode_t *mode) {
    struct statx found;
    if (statx(folder, name, flags, STATX_INO | STATX_BTIME | STATX_TYPE, &found)) return -1;
    *mode = found.stx_mode;
    snprintf(text, size, "%llu-%lld-%u", (unsigned long long)found.stx_ino, (long long)found.stx_btime.tv_sec,
             found.stx_btime.tv_nsec);
    return 0;
}

static void copy_bytes(int fd, FILE *copy) {
    char bytes[1 << 16];
    off_t at = 0;
    ssize_t got;
    while ((got = pread(fd, bytes, sizeof bytes, at)) > 0) {
        fwrite(bytes, 1, (size_t)got, copy);
        at += got;
    }
}

static void list_entries(const char *path, FILE *copy) {
    DIR *folder = opendir(path);
    struct dirent *entry;
    char text[96];
    mode_t mode;
    if (folder == NULL) return;
    while ((entry = readdir(folder)) != NULL) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        if (identity(dirfd(folder), entry->d_name, AT_SYMLINK_NOFOLLOW, text, sizeof text, &mode)) continue;
        fprintf(copy, "%c %s %s\n", S_ISDIR(mode) ? 'd' : 'f', text, entry->d_name);
    }
    closedir(folder);
}

/* The name under which an open file or folder is kept; 0 when it has one. */
int kept_as(int fd, char *text, size_t size) {
    mode_t mode;
    return identity(fd, "", AT_EMPTY_PATH, text, size, &mode);
}

static int keep(int fd) {
    const char *beside = getenv("UNSYNCED");
    char link[64], path[PATH_MAX], text[96], part[PATH_MAX], whole[PATH_MAX];
    mode_t mode;
    ssize_t length;
    if (beside == NULL) return 0;
    snprintf(part, sizeof part, "%s/broken", beside);
    if (access(part, F_OK) == 0) {
        errno = EIO;
        return -1;
    }
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    length = readlink(link, path, sizeof path - 1);
    if (length < 0 || identity(fd, "", AT_EMPTY_PATH, text, sizeof text, &mode)) return 0;
    path[length] = 0;
    pthread_mutex_lock(&one_at_a_time);
    snprintf(part, sizeof part, "%s/%s.%d", beside, text, getpid());
    snprintf(whole, sizeof whole, "%s/%s", beside, text);
    FILE *copy = fopen(part, "w");
    if (copy != NULL) {
        if (S_ISDIR(mode)) list_entries(path, copy);
        else {
            /* To open a database again and close it would let go of its locks: only what cannot be read is. */
            int unreadable = (fcntl(fd, F_GETFL) & O_ACCMODE) == O_WRONLY;
            int source = unreadable ? open(link, O_RDONLY) : fd;
            if (source >= 0) copy_bytes(source, copy);
            if (unreadable && source >= 0) close(source);
        }
        fclose(copy);
        rename(part, whole);
    }
    pthread_mutex_unlock(&one_at_a_time);
    return 0;
}

int fsync(int fd) {
    static sync_call real;
    if (real == NULL) real = (sync_call)dlsym(RTLD_NEXT, "fsync");
    return keep(fd) ? -1 : real(fd);
}

int fdatasync(int fd) {
    static sync_call real;
    if (real == NULL) real = (sync_call)dlsym(RTLD_NEXT, "fdatasync");
    return keep(fd) ? -1 : real(fd);
}
