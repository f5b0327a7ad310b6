/* libevent's echo with bufferevents, as its users write it: what has come moves from the input to
 * the output without a copy.
 */
#include <arpa/inet.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

enum { BACKLOG = 1024, UNSENT_MAX = 1 << 20 };

static void has_read(struct bufferevent *conn, void *unused) {
    (void)unused;
    struct evbuffer *output = bufferevent_get_output(conn);
    evbuffer_add_buffer(output, bufferevent_get_input(conn));
    if (evbuffer_get_length(output) > UNSENT_MAX) bufferevent_disable(conn, EV_READ);
}

static void written(struct bufferevent *conn, void *unused) {
    (void)unused;
    if (!(bufferevent_get_enabled(conn) & EV_READ)) bufferevent_enable(conn, EV_READ);
}

static void ended(struct bufferevent *conn, short what, void *unused) {
    (void)what, (void)unused;
    bufferevent_free(conn);
}

static void has_come(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *peer,
                     int len, void *base) {
    (void)listener, (void)peer, (void)len;
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct bufferevent *conn = bufferevent_socket_new(base, fd, BEV_OPT_CLOSE_ON_FREE);
    if (!conn) abort();
    bufferevent_setcb(conn, has_read, written, ended, NULL);
    bufferevent_enable(conn, EV_READ | EV_WRITE);
}

int main(int argc, char **argv) {
    signal(SIGPIPE, SIG_IGN);
    struct sockaddr_in addr = {.sin_family = AF_INET};
    socklen_t len = sizeof addr;
    char address[INET_ADDRSTRLEN] = "127.0.0.1";
    int port = 0;
    if (argc > 1 && sscanf(argv[1], "%15[0-9.]:%d", address, &port) != 2) {
        fprintf(stderr, "usage: %s [ADDRESS:PORT]\n", argv[0]);
        return 2;
    }
    addr.sin_port = htons(port);
    if (inet_pton(AF_INET, address, &addr.sin_addr) != 1) return 2;
    struct event_base *base = event_base_new();
    if (!base) abort();
    struct evconnlistener *listener =
        evconnlistener_new_bind(base, has_come, base, LEV_OPT_CLOSE_ON_FREE | LEV_OPT_REUSEABLE,
                                BACKLOG, (struct sockaddr *)&addr, len);
    if (!listener) {
        perror("listen");
        return 1;
    }
    if (getsockname(evconnlistener_get_fd(listener), (struct sockaddr *)&addr, &len)) return 1;
    printf("listening on %s:%d\n", address, ntohs(addr.sin_port));
    fflush(stdout);
    return event_base_dispatch(base);
}
