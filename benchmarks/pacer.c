/* The two loads that wrk can't make.
 *
 *     pacer PORT REQUESTS RATE SECONDS SEED
 *
 * An open loop: requests leave when the schedule says so, whether or not earlier ones have been
 * answered, and latency counts from the moment that was planned. A closed loop such as wrk's sends
 * less while the server is slow and so forgives it its worst moments ("coordinated omission").
 * Arrivals are a Poisson process of RATE per second from a seeded generator, so every server gets
 * the same schedule.
 *
 *     pacer PORT REQUESTS CLIENTS
 *
 * A closed loop that works off a list: each request is sent once, CLIENTS are under way at a time,
 * and the clock stops at the last answer. wrk stops at a deadline, and leaves uncounted what is
 * under way then: with large requests among small ones, the most expensive part of the work.
 *
 * REQUESTS is a file as wrk.lua reads it. Connections to 127.0.0.1 are kept alive; one more is
 * opened whenever none is free. The result is one line of JSON.
 *
 * It understands what the servers here answer: HTTP/1.1 with Content-Length, or chunked.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MAX_CONNECTIONS = 2048, HEAD_BYTES = 16384 };
static const double GIVE_UP_AFTER_S = 30;

struct request { char *bytes; size_t length; };

struct connection {
    int fd;
    int busy;
    double due;           /* when its request was to be sent */
    const struct request *request;
    size_t written;
    char head[HEAD_BYTES];
    size_t head_length;
    int in_body, status, chunked;
    long body_left;       /* of a body whose length is known */
    char tail[5];         /* last bytes of a chunked one: it ends with "0\r\n\r\n" */
};

static struct connection *connections[MAX_CONNECTIONS];
static int opened, poller, port;
static double *latencies;
static size_t answered, failed;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static struct request *read_requests(const char *path, size_t *count)
{
    FILE *file = fopen(path, "rb");
    struct request *requests = NULL;
    size_t length;
    if (!file) die(path);
    *count = 0;
    while (fscanf(file, "%zu", &length) == 1) {
        fgetc(file);
        requests = realloc(requests, (*count + 1) * sizeof *requests);
        requests[*count].bytes = malloc(length);
        requests[*count].length = length;
        if (fread(requests[*count].bytes, 1, length, file) != length) die("short file of requests");
        ++*count;
    }
    fclose(file);
    if (!*count) { fputs("no requests\n", stderr); exit(1); }
    return requests;
}

static double uniform(uint64_t *state)  /* splitmix64, in (0, 1] */
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return ((z ^ (z >> 31)) >> 11) * 0x1p-53 + 0x1p-53;
}

static int dial(struct connection *c)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(port) };
    int one = 1;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (c->fd < 0) return -1;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(c->fd, (struct sockaddr *)&address, sizeof address) && errno != EINPROGRESS) {
        close(c->fd);
        return -1;
    }
    struct epoll_event event = { .events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = c };
    if (epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &event)) die("epoll_ctl");
    return 0;
}

static void drop(struct connection *c)
{
    if (c->fd >= 0) close(c->fd);
    c->fd = -1;
    if (c->busy) ++failed;
    c->busy = 0;
}

static void push(struct connection *c)
{
    while (c->busy && c->written < c->request->length) {
        ssize_t n = send(c->fd, c->request->bytes + c->written, c->request->length - c->written,
                         MSG_NOSIGNAL);
        if (n > 0) { c->written += n; continue; }
        if (n < 0 && (errno == EAGAIN || errno == ENOTCONN)) return;
        drop(c);
        return;
    }
}

static void begin(const struct request *request, double due)
{
    struct connection *c = NULL, *unused = NULL;
    for (int i = 0; i < opened && !c; i++) {
        if (connections[i]->busy) continue;
        if (connections[i]->fd >= 0) c = connections[i];
        else unused = connections[i];
    }
    if (!c) c = unused;
    if (!c && opened < MAX_CONNECTIONS) {
        c = connections[opened++] = calloc(1, sizeof *c);
        c->fd = -1;
    }
    if (!c || (c->fd < 0 && dial(c))) { ++failed; return; }
    c->busy = 1;
    c->due = due;
    c->request = request;
    c->written = c->head_length = 0;
    c->in_body = 0;
    push(c);
}

static void finish(struct connection *c)
{
    if (c->status == 200) latencies[answered++] = now() - c->due;
    else ++failed;
    c->busy = 0;
    if (strcasestr(c->head, "\r\nconnection: close")) drop(c);
}

/* Takes bytes of an answer; 0 once it is complete. */
static int take_body(struct connection *c, const char *bytes, size_t length)
{
    if (!c->chunked) return (c->body_left -= length) > 0;
    for (size_t i = length > 5 ? length - 5 : 0; i < length; i++) {
        memmove(c->tail, c->tail + 1, 4);
        c->tail[4] = bytes[i];
    }
    return memcmp(c->tail, "0\r\n\r\n", 5) != 0;
}

static void pull(struct connection *c)
{
    char bytes[65536];
    for (;;) {
        ssize_t n = recv(c->fd, bytes, sizeof bytes, 0);
        if (n < 0 && (errno == EAGAIN || errno == ENOTCONN)) return;
        if (n <= 0 || !c->busy) { drop(c); return; }
        size_t used = 0;
        if (!c->in_body) {
            size_t room = HEAD_BYTES - 1 - c->head_length;
            size_t copied = (size_t)n < room ? (size_t)n : room;
            size_t before = c->head_length;
            memcpy(c->head + before, bytes, copied);
            c->head[c->head_length += copied] = 0;
            char *end = strstr(c->head, "\r\n\r\n");
            if (!end) {
                if (copied < (size_t)n) drop(c);
                continue;
            }
            used = end + 4 - c->head - before;
            end[2] = 0;
            char *declared = strcasestr(c->head, "\r\ncontent-length:");
            c->chunked = strcasestr(c->head, "\r\ntransfer-encoding: chunked") != NULL;
            c->status = c->head_length > 12 ? atoi(c->head + 9) : 0;
            c->body_left = declared ? atol(declared + 17) : 0;
            memset(c->tail, 0, sizeof c->tail);
            c->in_body = 1;
            if (!c->chunked && !c->body_left) { finish(c); return; }
        }
        if (n - used && !take_body(c, bytes + used, n - used)) { finish(c); return; }
    }
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double percentile(double share)
{
    return answered ? latencies[(size_t)ceil(share * answered) - 1] * 1000 : 0;
}

static void exchange(double pause)  /* waits for so many seconds at most */
{
    struct timespec timeout = { .tv_sec = (time_t)pause,
                                .tv_nsec = (long)((pause - (time_t)pause) * 1e9) };
    struct epoll_event events[64];
    int ready = epoll_pwait2(poller, events, 64, &timeout, NULL);
    for (int i = 0; i < ready; i++) {
        struct connection *c = events[i].data.ptr;
        if (c->fd >= 0 && events[i].events & EPOLLOUT) push(c);
        if (c->fd >= 0 && events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) pull(c);
    }
}

/* Returns how many requests were planned. */
static size_t follow_schedule(const struct request *requests, size_t kinds, double rate,
                              double seconds, uint64_t state)
{
    size_t planned = 0;
    double started = now(), due = started - log(uniform(&state)) / rate;
    double last = started + seconds;
    for (;;) {
        double time = now();
        while (due < last && due <= time) {
            begin(&requests[planned++ % kinds], due);
            due -= log(uniform(&state)) / rate;
        }
        int waiting = due < last;
        if (!waiting && (answered + failed >= planned || time > last + GIVE_UP_AFTER_S)) break;
        exchange(waiting ? due - time : 0.05);
    }
    return planned;
}

static void work_off(const struct request *requests, size_t count, size_t clients)
{
    size_t planned = 0, done = 0;
    double heard = now();
    while (done < count && now() < heard + GIVE_UP_AFTER_S) {
        while (planned < count && planned - answered - failed < clients)
            begin(&requests[planned++], now());
        exchange(0.05);
        if (answered + failed > done) heard = now();
        done = answered + failed;
    }
}

int main(int count, char **arguments)
{
    if (count != 4 && count != 6) {
        fputs("pacer PORT REQUESTS RATE SECONDS SEED\npacer PORT REQUESTS CLIENTS\n", stderr);
        return 2;
    }
    size_t kinds, planned;
    struct request *requests = read_requests(arguments[2], &kinds);
    port = atoi(arguments[1]);
    poller = epoll_create1(0);
    double started = now();
    if (count == 4) {
        latencies = calloc(planned = kinds, sizeof *latencies);
        work_off(requests, kinds, strtoul(arguments[3], NULL, 10));
    } else {
        double rate = atof(arguments[3]), seconds = atof(arguments[4]);
        latencies = calloc((size_t)(rate * seconds * 2) + 1000, sizeof *latencies);
        planned = follow_schedule(requests, kinds, rate, seconds,
                                  strtoull(arguments[5], NULL, 10));
    }
    double took = now() - started;
    qsort(latencies, answered, sizeof *latencies, ascending);
    printf("JSON{\"requests\": %zu, \"answered\": %zu, \"errors\": %zu, \"seconds\": %.6f, "
           "\"connections\": %d, \"p50_ms\": %.3f, \"p90_ms\": %.3f, \"p99_ms\": %.3f, "
           "\"max_ms\": %.3f}\n",
           planned, answered, planned - answered, took, opened, percentile(.5), percentile(.9),
           percentile(.99), percentile(1));
    return 0;
}
