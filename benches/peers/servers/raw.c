/* The measure: an echo on the raw system calls, edge-triggered, one receive buffer for all, answers
 * sent at once. What the kernel does not take waits with its connection, which is not read from
 * until it has left. Prints "listening on ADDRESS:PORT".
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { RECV_BYTES = 64 << 10, EVENTS = 1024, BACKLOG = 1024 };

struct conn {
    int fd;
    char *unsent;
    size_t start, len;
};

static _Alignas(4096) char buffer[RECV_BYTES];
static int poller, listener;

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void end(struct conn *conn) {
    close(conn->fd);
    free(conn->unsent);
    free(conn);
}

static void accept_all(void) {
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno == EAGAIN) return;
            if (errno == EINTR || errno == ECONNABORTED) continue;
            die("accept4");
        }
        int on = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        struct conn *conn = calloc(1, sizeof *conn);
        if (!conn) die("calloc");
        conn->fd = fd;
        struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                                    .data.ptr = conn};
        if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event)) die("epoll_ctl");
    }
}

/* Returns how many bytes the kernel took, or -1 if the connection is over. */
static ssize_t send_some(int fd, const char *data, size_t len) {
    ssize_t count;
    do count = send(fd, data, len, MSG_NOSIGNAL);
    while (count < 0 && errno == EINTR);
    return count < 0 && errno == EAGAIN ? 0 : count;
}

/* Returns whether the connection goes on. */
static int serve(struct conn *conn, unsigned events) {
    if (conn->len) {
        ssize_t sent = send_some(conn->fd, conn->unsent + conn->start, conn->len);
        if (sent < 0) return 0;
        conn->start += sent;
        conn->len -= sent;
        if (conn->len) return 1;
        free(conn->unsent);
        conn->unsent = NULL;
    }
    if (!(events & ~EPOLLOUT) && !conn->start) return 1;
    conn->start = 0;
    for (;;) {
        ssize_t count = recv(conn->fd, buffer, sizeof buffer, 0);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return errno == EAGAIN;
        if (count == 0) return 0;
        ssize_t sent = send_some(conn->fd, buffer, count);
        if (sent < 0) return 0;
        if (sent < count) {
            conn->len = count - sent;
            conn->unsent = malloc(conn->len);
            if (!conn->unsent) die("malloc");
            memcpy(conn->unsent, buffer + sent, conn->len);
            return 1;
        }
        /* Short: the socket is empty, unless the end is near. */
        if (count < RECV_BYTES && !(events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))) return 1;
    }
}

static void listen_on(const char *address, int port) {
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons(port)};
    socklen_t len = sizeof addr;
    int on = 1;
    if (inet_pton(AF_INET, address, &addr.sin_addr) != 1) die("inet_pton");
    listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (listener < 0) die("socket");
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&addr, len)) die("bind");
    if (listen(listener, BACKLOG)) die("listen");
    if (getsockname(listener, (struct sockaddr *)&addr, &len)) die("getsockname");
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.ptr = NULL};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event)) die("epoll_ctl");
    printf("listening on %s:%d\n", address, ntohs(addr.sin_port));
    fflush(stdout);
}

int main(int argc, char **argv) {
    static struct epoll_event events[EVENTS];
    char address[INET_ADDRSTRLEN] = "127.0.0.1";
    int port = 0;
    if (argc > 1 && sscanf(argv[1], "%15[0-9.]:%d", address, &port) != 2) {
        fprintf(stderr, "usage: %s [ADDRESS:PORT]\n", argv[0]);
        return 2;
    }
    poller = epoll_create1(EPOLL_CLOEXEC);
    if (poller < 0) die("epoll_create1");
    listen_on(address, port);
    for (;;) {
        int count = epoll_wait(poller, events, EVENTS, -1);
        if (count < 0 && errno != EINTR) die("epoll_wait");
        for (int i = 0; i < count; i++) {
            struct conn *conn = events[i].data.ptr;
            if (!conn)
                accept_all();
            else if (!serve(conn, events[i].events))
                end(conn);
        }
    }
}
