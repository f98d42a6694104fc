/* reader.c - see reader.h.
 *
 * DESIGN
 * Threads that pread, as many as reads were in flight at once, up to a limit.  A flight (one read) moves from
 * `idle` to `todo` (submit), from there to a thread, to `ended` and back to `idle` (wait).
 * All four places are known under `lock`; a flight that a thread holds is that thread's
 * alone, so the bytes are read without the lock.  docs/MEMORY.md has why it is not io_uring.
 * SPDX-License-Identifier: MIT */
#include "memory/reader.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "base/file.h"
#include "base/sys.h"

/* More than this many reads at the disk make none faster; the rest of `depth` queues. */
enum { MAX_THREADS = 32 };

typedef struct reader_file {
    tug_file file;
    const char *path;      /* in `names` */
    struct timespec mtime; /* when it was opened */
    bool direct;
} reader_file;

typedef struct flight {
    tug_read read;
    tug_status status;
    tug_err err;
} flight;

/* Numbers of flights, first in, first out. */
typedef struct flight_queue {
    int *at; /* owned, (depth,) */
    int first, n;
} flight_queue;

struct tug_reader {
    tug_arena names;
    reader_file *files; /* owned, (n_files,) */
    int n_files;
    pthread_t *threads; /* owned */
    int n_threads, max_threads;
    flight *flights; /* owned, (depth,) */
    int depth;

    pthread_mutex_t lock;
    pthread_cond_t submitted, finished;
    flight_queue idle, todo, ended;
    int n_idle_threads;
    int n_open; /* in todo or with a thread */
    double open_since, busy_s;
    bool stop;

    /* The owner's alone. */
    int n_in_flight;
    uint64_t n_reads, n_bytes;
    double waited_s;
    char error[sizeof((tug_err *)0)->msg];
};

/* ---- one read ------------------------------------------------------------------------- */

static tug_status cannot_read(const reader_file *f, uint64_t at, int why, tug_err *err) {
    return TUG_FAIL(
        err, TUG_EIO,
        "cannot read %s at byte %llu: %s; see what the kernel says of that disk "
        "(dmesg)",
        f->path, (unsigned long long)at, strerror(why));
}

static tug_status is_shorter(const reader_file *f, uint64_t end, tug_err *err) {
    return TUG_FAIL(
        err, TUG_EIO,
        "%s is shorter than when it was opened: it ends at byte %llu of %llu; "
        "put the file back and open it again",
        f->path, (unsigned long long)end, (unsigned long long)f->file.size);
}

/* Reads in whole blocks.  A short read goes on at the last whole block; one that brings
 * nothing new was at the end of the file. */
static tug_status read_blocks(const reader_file *f, const tug_read *r, tug_err *err) {
    const size_t skip = tug_reader_skip(r->offset);
    const uint64_t begin = r->offset - skip;
    const size_t want = skip + (size_t)r->n;
    const size_t room =
        (want + TUG_READER_BLOCK - 1) / TUG_READER_BLOCK * TUG_READER_BLOCK;
    size_t have = 0;
    while (have < want) {
        const size_t whole = have / TUG_READER_BLOCK * TUG_READER_BLOCK;
        const ssize_t got = tug_sys.pread(f->file.fd, r->memory + whole, room - whole,
                                          (off_t)(begin + whole));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return cannot_read(f, begin + whole, errno, err);
        if (whole + (size_t)got <= have) return is_shorter(f, begin + have, err);
        have = whole + (size_t)got;
    }
    if (!f->direct) {
        (void)tug_sys.fadvise(f->file.fd, (off_t)begin, (off_t)room, POSIX_FADV_DONTNEED);
    }
    return TUG_OK;
}

/* ---- flights -------------------------------------------------------------------------- */

static void push(const tug_reader *r, flight_queue *q, int i) {
    q->at[(q->first + q->n++) % r->depth] = i;
}

static int pop(const tug_reader *r, flight_queue *q) {
    const int i = q->at[q->first];
    q->first = (q->first + 1) % r->depth;
    q->n--;
    return i;
}

static void *worker(void *arg) {
    tug_reader *r = arg;
    pthread_mutex_lock(&r->lock);
    for (;;) {
        r->n_idle_threads++;
        while (r->todo.n == 0 && !r->stop) pthread_cond_wait(&r->submitted, &r->lock);
        r->n_idle_threads--;
        if (r->stop) break;
        const int i = pop(r, &r->todo);
        pthread_mutex_unlock(&r->lock);
        flight *f = &r->flights[i];
        f->status = read_blocks(&r->files[f->read.file], &f->read, &f->err);
        pthread_mutex_lock(&r->lock);
        push(r, &r->ended, i);
        if (--r->n_open == 0) r->busy_s += tug_now() - r->open_since;
        pthread_cond_signal(&r->finished);
    }
    pthread_mutex_unlock(&r->lock);
    return NULL;
}

/* One more, if there may be. */
static bool start_thread(tug_reader *r) {
    if (r->n_threads == r->max_threads) return true;
    if (pthread_create(&r->threads[r->n_threads], NULL, worker, r) != 0) return false;
    r->n_threads++;
    return true;
}

bool tug_reader_submit(tug_reader *r, const tug_read *read) {
    TUG_CHECK(read->file >= 0 && read->file < r->n_files && read->n >= 1);
    TUG_CHECK(read->n <= r->files[read->file].file.size &&
              read->offset <= r->files[read->file].file.size - read->n);
    TUG_CHECK((uintptr_t)read->memory % TUG_READER_BLOCK == 0);
    if (r->n_in_flight == r->depth) return false;
    r->n_in_flight++;
    pthread_mutex_lock(&r->lock);
    const int i = pop(r, &r->idle);
    r->flights[i].read = *read;
    push(r, &r->todo, i);
    if (r->n_open++ == 0) r->open_since = tug_now();
    const bool busy = r->todo.n > r->n_idle_threads;
    pthread_cond_signal(&r->submitted);
    pthread_mutex_unlock(&r->lock);
    if (busy) (void)start_thread(r); /* without it the read waits for the others */
    return true;
}

int tug_reader_in_flight(const tug_reader *r) {
    return r->n_in_flight;
}

/* Hands an ended flight to the owner. */
static tug_read_done take_ended(tug_reader *r) {
    const int i = pop(r, &r->ended);
    const flight *f = &r->flights[i];
    push(r, &r->idle, i);
    r->n_in_flight--;
    if (f->status == TUG_OK) {
        r->n_reads++;
        r->n_bytes += f->read.n;
    } else {
        memcpy(r->error, f->err.msg, sizeof r->error);
    }
    return (tug_read_done){f->read.tag, f->status};
}

int tug_reader_wait(tug_reader *r, tug_read_done *done, int max, bool block) {
    TUG_CHECK(max >= 1);
    if (r->n_in_flight == 0) return 0;
    pthread_mutex_lock(&r->lock);
    if (block && r->ended.n == 0) {
        const double start = tug_now();
        while (r->ended.n == 0) pthread_cond_wait(&r->finished, &r->lock);
        r->waited_s += tug_now() - start;
    }
    int n = 0;
    while (n < max && r->ended.n > 0) done[n++] = take_ended(r);
    pthread_mutex_unlock(&r->lock);
    return n;
}

const char *tug_reader_error(const tug_reader *r) {
    return r->error;
}

tug_reader_stats tug_reader_get_stats(tug_reader *r) {
    tug_reader_stats s = {.n_reads = r->n_reads,
                          .n_bytes = r->n_bytes,
                          .waited_s = r->waited_s,
                          .direct = true};
    for (int i = 0; i < r->n_files; i++) s.direct = s.direct && r->files[i].direct;
    pthread_mutex_lock(&r->lock);
    s.busy_s = r->busy_s + (r->n_open > 0 ? tug_now() - r->open_since : 0.0);
    pthread_mutex_unlock(&r->lock);
    return s;
}

/* ---- files ---------------------------------------------------------------------------- */

/* Some file systems refuse the flag, some only the first read. */
static bool can_read_direct(const reader_file *f, uint8_t *block) {
    if (tug_sys.set_flags(f->file.fd, O_DIRECT) != 0) return false;
    if (tug_sys.pread(f->file.fd, block, TUG_READER_BLOCK, 0) >= 0) return true;
    (void)tug_sys.set_flags(f->file.fd, 0);
    return false;
}

static tug_status open_file(tug_reader *r, const char *path, uint8_t *block,
                            tug_err *err) {
    reader_file *f = &r->files[r->n_files];
    f->path = tug_arena_copy(&r->names, tug_str_of(path)).p;
    if (!f->path) return TUG_FAIL(err, TUG_ENOMEM, "out of memory for the reader");
    TUG_TRY(tug_file_open(&f->file, path, err));
    r->n_files++;
    struct stat st;
    if (tug_sys.fstat(f->file.fd, &st) != 0) {
        return TUG_FAIL(err, TUG_EIO, "cannot examine %s: %s", path, strerror(errno));
    }
    f->mtime = st.st_mtim;
    f->direct = can_read_direct(f, block);
    if (!f->direct) {
        /* Not a byte more than what is asked for. */
        (void)tug_sys.fadvise(f->file.fd, 0, 0, POSIX_FADV_RANDOM);
    }
    return TUG_OK;
}

static tug_status open_files(tug_reader *r, const tug_reader_params *p, tug_err *err) {
    uint8_t *block = tug_alloc_aligned(TUG_READER_BLOCK, TUG_READER_BLOCK);
    if (!block) return TUG_FAIL(err, TUG_ENOMEM, "out of memory for the reader");
    tug_status s = TUG_OK;
    for (int i = 0; i < p->n_files && s == TUG_OK; i++) {
        s = open_file(r, p->paths[i], block, err);
    }
    tug_free(block);
    return s;
}

static tug_status check_file(const reader_file *f, tug_err *err) {
    struct stat st;
    if (tug_sys.fstat(f->file.fd, &st) != 0) {
        return TUG_FAIL(err, TUG_EIO, "cannot examine %s: %s", f->path, strerror(errno));
    }
    if ((uint64_t)st.st_size < f->file.size) {
        return is_shorter(f, (uint64_t)st.st_size, err);
    }
    if ((uint64_t)st.st_size != f->file.size || st.st_mtim.tv_sec != f->mtime.tv_sec ||
        st.st_mtim.tv_nsec != f->mtime.tv_nsec) {
        return TUG_FAIL(err, TUG_EIO,
                        "%s was written to after it was opened: open it again", f->path);
    }
    return TUG_OK;
}

tug_status tug_reader_check(const tug_reader *r, tug_err *err) {
    for (int i = 0; i < r->n_files; i++) TUG_TRY(check_file(&r->files[i], err));
    return TUG_OK;
}

/* ---- life ----------------------------------------------------------------------------- */

static tug_status allocate(tug_reader *r, int n_files, tug_err *err) {
    const size_t depth = (size_t)r->depth;
    r->files = tug_alloc_array((size_t)n_files, sizeof *r->files);
    r->threads = tug_alloc_array(depth, sizeof *r->threads);
    r->flights = tug_alloc_array(depth, sizeof *r->flights);
    r->idle.at = tug_alloc_array(depth, sizeof *r->idle.at);
    r->todo.at = tug_alloc_array(depth, sizeof *r->todo.at);
    r->ended.at = tug_alloc_array(depth, sizeof *r->ended.at);
    if (!r->files || !r->threads || !r->flights || !r->idle.at || !r->todo.at ||
        !r->ended.at) {
        return TUG_FAIL(err, TUG_ENOMEM, "out of memory for the reader");
    }
    for (int i = 0; i < r->depth; i++) push(r, &r->idle, i);
    return TUG_OK;
}

tug_status tug_reader_create(tug_reader **out, const tug_reader_params *p, tug_err *err) {
    *out = NULL;
    TUG_CHECK(p->n_files >= 1 && p->depth >= 1);
    tug_reader *r = tug_alloc_zero(sizeof *r);
    if (!r) return TUG_FAIL(err, TUG_ENOMEM, "out of memory for the reader");
    r->depth = p->depth;
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->submitted, NULL);
    pthread_cond_init(&r->finished, NULL);
    tug_status s = allocate(r, p->n_files, err);
    if (s == TUG_OK) s = open_files(r, p, err);
    r->max_threads = r->depth < MAX_THREADS ? r->depth : MAX_THREADS;
    if (s == TUG_OK && !start_thread(r)) {
        s = TUG_FAIL(err, TUG_ENOMEM,
                     "cannot start a reading thread: is there a limit on threads "
                     "(ulimit -u)?");
    }
    if (s != TUG_OK) {
        tug_reader_destroy(&r);
        return s;
    }
    *out = r;
    return TUG_OK;
}

static void stop_threads(tug_reader *r) {
    pthread_mutex_lock(&r->lock);
    r->stop = true;
    pthread_cond_broadcast(&r->submitted);
    pthread_mutex_unlock(&r->lock);
    for (int i = 0; i < r->n_threads; i++) pthread_join(r->threads[i], NULL);
}

void tug_reader_destroy(tug_reader **reader) {
    tug_reader *r = *reader;
    if (!r) return;
    stop_threads(r);
    for (int i = 0; i < r->n_files; i++) tug_file_close(&r->files[i].file);
    pthread_cond_destroy(&r->finished);
    pthread_cond_destroy(&r->submitted);
    pthread_mutex_destroy(&r->lock);
    tug_free(r->ended.at);
    tug_free(r->todo.at);
    tug_free(r->idle.at);
    tug_free(r->flights);
    tug_free(r->threads);
    tug_free(r->files);
    tug_arena_free(&r->names);
    tug_free(r);
    *reader = NULL;
}
