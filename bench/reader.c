/* Reads files as programs do, the same for every mount, and says how long it took: "SECONDS NBYTES" on standard output.
 *
 *   reader seq FILE             from begin to end, 1 MiB at a time
 *   reader many LIST THREADS    whole files, the paths in LIST one a line, in that order; each thread takes the next one
 *   reader at FILE OFFSET SIZE  one read; the file is opened before the clock starts
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MOST (1 << 20)

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void die(const char *path) {
    fprintf(stderr, "%s: %s\n", path, strerror(errno));
    exit(1);
}

static int open_file(const char *path) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) die(path);
    return fd;
}

static long long read_all(int fd, const char *path, char *buffer) {
    long long total = 0;
    for (;;) {
        ssize_t n = read(fd, buffer, MOST);
        if (n < 0) die(path);
        if (n == 0) return total;
        total += n;
    }
}

static char *room(void) {
    void *made;
    if (posix_memalign(&made, 4096, MOST)) die("memory");
    return made;
}

static char **paths;
static size_t count;
static atomic_size_t next_one;
static atomic_llong total_bytes;

static void *work(void *unused) {
    char *buffer = room();
    (void)unused;
    for (;;) {
        size_t at = atomic_fetch_add(&next_one, 1);
        if (at >= count) return NULL;
        int fd = open_file(paths[at]);
        atomic_fetch_add(&total_bytes, read_all(fd, paths[at], buffer));
        close(fd);
    }
}

static void read_list(const char *list) {
    FILE *stream = fopen(list, "r");
    char *line = NULL;
    size_t length = 0, have = 0;
    if (!stream) die(list);
    for (ssize_t n; (n = getline(&line, &length, stream)) > 0;) {
        if (line[n - 1] == '\n') line[n - 1] = 0;
        if (count == have && !(paths = realloc(paths, (have = have ? 2 * have : 1024) * sizeof *paths))) die(list);
        paths[count++] = strdup(line);
    }
}

int main(int argc, char **argv) {
    double begin;
    if (argc == 3 && !strcmp(argv[1], "seq")) {
        char *buffer = room();
        begin = now();
        int fd = open_file(argv[2]);
        total_bytes = read_all(fd, argv[2], buffer);
    } else if (argc == 4 && !strcmp(argv[1], "many")) {
        int threads = atoi(argv[3]);
        pthread_t made[256];
        if (threads < 1 || threads > 256) return 2;
        read_list(argv[2]);
        begin = now();
        for (int i = 0; i < threads; i++)
            if (pthread_create(&made[i], NULL, work, NULL)) die("thread");
        for (int i = 0; i < threads; i++) pthread_join(made[i], NULL);
    } else if (argc == 5 && !strcmp(argv[1], "at")) {
        char *buffer = room();
        int fd = open_file(argv[2]);
        begin = now();
        ssize_t n = pread(fd, buffer, atoll(argv[4]), atoll(argv[3]));
        if (n < 0) die(argv[2]);
        total_bytes = n;
    } else {
        fputs("usage: reader seq FILE | many LIST THREADS | at FILE OFFSET SIZE\n", stderr);
        return 2;
    }
    printf("%.6f %lld\n", now() - begin, (long long)total_bytes);
    return 0;
}
