/* libuv's echo, as its users write it: one buffer for reading, which libuv asks for before each
 * read, and a copy of what is read for each write, as a write keeps what it is given until it is
 * done. What can be written at once is (uv_try_write), which needs no copy.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

enum { RECV_BYTES = 64 << 10, BACKLOG = 1024, UNSENT_MAX = 1 << 20 };

struct request {
    uv_write_t write;
    char bytes[];
};

static char buffer[RECV_BYTES];

static void check(int result, const char *what) {
    if (result < 0) {
        fprintf(stderr, "%s: %s\n", what, uv_strerror(result));
        exit(1);
    }
}

static void freed(uv_handle_t *handle) { free(handle); }

static void end(uv_stream_t *conn) {
    if (!uv_is_closing((uv_handle_t *)conn)) uv_close((uv_handle_t *)conn, freed);
}

static void lend(uv_handle_t *conn, size_t suggested, uv_buf_t *lent) {
    (void)conn, (void)suggested;
    *lent = uv_buf_init(buffer, sizeof buffer);
}

static void has_read(uv_stream_t *conn, ssize_t count, const uv_buf_t *lent);

static void written(uv_write_t *write, int status) {
    uv_stream_t *conn = write->handle;
    free(write);
    if (status < 0)
        end(conn);
    else if (!uv_is_closing((uv_handle_t *)conn) && !uv_stream_get_write_queue_size(conn))
        uv_read_start(conn, lend, has_read);
}

static void has_read(uv_stream_t *conn, ssize_t count, const uv_buf_t *lent) {
    if (count < 0) {
        end(conn);
        return;
    }
    /* Nothing was there after all. */
    if (count == 0) return;
    uv_buf_t rest = uv_buf_init(lent->base, count);
    int sent = uv_try_write(conn, &rest, 1);
    if (sent < 0 && sent != UV_EAGAIN) {
        end(conn);
        return;
    }
    if (sent < 0) sent = 0;
    if (sent == count) return;
    struct request *request = malloc(sizeof *request + count - sent);
    if (!request) abort();
    memcpy(request->bytes, lent->base + sent, count - sent);
    rest = uv_buf_init(request->bytes, count - sent);
    check(uv_write(&request->write, conn, &rest, 1, written), "uv_write");
    if (uv_stream_get_write_queue_size(conn) > UNSENT_MAX) uv_read_stop(conn);
}

static void has_come(uv_stream_t *listener, int status) {
    if (status < 0) return;
    uv_tcp_t *conn = malloc(sizeof *conn);
    if (!conn) abort();
    check(uv_tcp_init(listener->loop, conn), "uv_tcp_init");
    if (uv_accept(listener, (uv_stream_t *)conn)) {
        end((uv_stream_t *)conn);
        return;
    }
    uv_tcp_nodelay(conn, 1);
    uv_read_start((uv_stream_t *)conn, lend, has_read);
}

int main(int argc, char **argv) {
    signal(SIGPIPE, SIG_IGN);
    uv_loop_t *loop = uv_default_loop();
    uv_tcp_t listener;
    struct sockaddr_in addr;
    int len = sizeof addr, port = 0;
    char address[16] = "127.0.0.1";
    if (argc > 1 && sscanf(argv[1], "%15[0-9.]:%d", address, &port) != 2) {
        fprintf(stderr, "usage: %s [ADDRESS:PORT]\n", argv[0]);
        return 2;
    }
    check(uv_ip4_addr(address, port, &addr), "uv_ip4_addr");
    check(uv_tcp_init(loop, &listener), "uv_tcp_init");
    check(uv_tcp_bind(&listener, (struct sockaddr *)&addr, 0), "uv_tcp_bind");
    check(uv_listen((uv_stream_t *)&listener, BACKLOG, has_come), "uv_listen");
    check(uv_tcp_getsockname(&listener, (struct sockaddr *)&addr, &len), "uv_tcp_getsockname");
    printf("listening on %s:%d\n", address, ntohs(addr.sin_port));
    fflush(stdout);
    return uv_run(loop, UV_RUN_DEFAULT);
}
