/* address.c - where the children of this shell find it */
#include "address.h"

#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct address {
    struct sockaddr_storage addr;
    socklen_t len;
};

static bool is_usable (const struct sockaddr *sa)
{
    if (!sa)
        return false;
    if (sa->sa_family == AF_INET)
        return true;
    /* a link-local address means nothing without its interface */
    return sa->sa_family == AF_INET6
           && !IN6_IS_ADDR_LINKLOCAL (&((const struct sockaddr_in6 *)sa)->sin6_addr);
}

static void set (struct address *a, const struct sockaddr *sa)
{
    a->len = sizeof (struct sockaddr_in6);
    if (sa->sa_family == AF_INET)
        a->len = sizeof (struct sockaddr_in);
    memcpy (&a->addr, sa, a->len);
}

/* Of the interface 'name', IPv4 first; or if 'name' is NULL of any that is up
 * and not the loopback.
 */
static int find_interface (const char *name, struct address *a)
{
    struct ifaddrs *all;
    int rc = -1;

    if (getifaddrs (&all) < 0)
        return -1;
    for (int family = 0; family < 2 && rc < 0; family++) {
        for (struct ifaddrs *i = all; i && rc < 0; i = i->ifa_next) {
            if (!is_usable (i->ifa_addr) || !(i->ifa_flags & IFF_UP)
                || i->ifa_addr->sa_family != (family ? AF_INET6 : AF_INET)
                || (name ? strcmp (name, i->ifa_name) != 0 : (i->ifa_flags & IFF_LOOPBACK) != 0))
                continue;
            set (a, i->ifa_addr);
            rc = 0;
        }
    }
    freeifaddrs (all);
    return rc;
}

/* "tcp://HOST:PORT" */
static struct addrinfo *resolve (const char *uri)
{
    struct addrinfo hints = { .ai_socktype = SOCK_DGRAM };
    struct addrinfo *ai = NULL;
    const char *colon;
    char host[256];
    size_t len;

    if (!uri || strncmp (uri, "tcp://", 6) || !(colon = strrchr (uri + 6, ':')))
        return NULL;
    uri += 6;
    len = colon - uri;
    if (*uri == '[' && len > 1 && colon[-1] == ']') {
        uri++;
        len -= 2;
    }
    if (len == 0 || len >= sizeof (host))
        return NULL;
    memcpy (host, uri, len);
    host[len] = '\0';
    return getaddrinfo (host, colon + 1, &hints, &ai) == 0 ? ai : NULL;
}

/* The address from which this machine would reach 'to'. */
static int find_route (const struct sockaddr *to, socklen_t len, struct address *a)
{
    int fd = socket (to->sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int rc = -1;

    a->len = sizeof (a->addr);
    if (fd >= 0 && connect (fd, to, len) == 0
        && getsockname (fd, (struct sockaddr *)&a->addr, &a->len) == 0
        && is_usable ((struct sockaddr *)&a->addr))
        rc = 0;
    if (fd >= 0)
        close (fd);
    return rc;
}

static int find_parent_route (struct bcast *b, struct address *a)
{
    struct addrinfo *ai = resolve (flux_attr_get (b->h, "tbon.parent-endpoint"));
    int rc = -1;

    for (struct addrinfo *i = ai; i && rc < 0; i = i->ai_next)
        rc = find_route (i->ai_addr, i->ai_addrlen, a);
    if (ai)
        freeaddrinfo (ai);
    return rc;
}

/* Does the address belong to this machine? */
static bool is_ours (const struct sockaddr *sa, socklen_t len)
{
    struct sockaddr_storage copy = { 0 };
    int fd = socket (sa->sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool ours;

    memcpy (&copy, sa, len);
    if (sa->sa_family == AF_INET)
        ((struct sockaddr_in *)&copy)->sin_port = 0;
    else
        ((struct sockaddr_in6 *)&copy)->sin6_port = 0;
    ours = fd >= 0 && bind (fd, (struct sockaddr *)&copy, len) == 0;
    if (fd >= 0)
        close (fd);
    return ours;
}

static bool is_any (const struct sockaddr *sa)
{
    if (sa->sa_family == AF_INET)
        return ((const struct sockaddr_in *)sa)->sin_addr.s_addr == INADDR_ANY;
    return IN6_IS_ADDR_UNSPECIFIED (&((const struct sockaddr_in6 *)sa)->sin6_addr);
}

/* The first broker has no parent, but an endpoint of its own. */
static int find_endpoint (struct bcast *b, struct address *a)
{
    struct addrinfo *ai = resolve (flux_attr_get (b->h, "tbon.endpoint"));
    int rc = -1;

    for (struct addrinfo *i = ai; i && rc < 0; i = i->ai_next) {
        if (is_usable (i->ai_addr) && !is_any (i->ai_addr) && is_ours (i->ai_addr, i->ai_addrlen)) {
            set (a, i->ai_addr);
            rc = 0;
        }
    }
    if (ai)
        freeaddrinfo (ai);
    return rc;
}

static bool is_one_host (struct bcast *b)
{
    char first[256];

    snprintf (first, sizeof (first), "%s", bcast_host (b, 0));
    for (int i = 1; i < b->size; i++) {
        if (strcmp (first, bcast_host (b, i)))
            return false;
    }
    return true;
}

/* Brokers of one host speak through local sockets, which have no address. */
static int find_default (struct bcast *b, struct address *a)
{
    struct sockaddr_in to = { .sin_family = AF_INET };

    if (is_one_host (b)) {
        to.sin_addr.s_addr = htonl (INADDR_LOOPBACK);
        set (a, (struct sockaddr *)&to);
        return 0;
    }
    /* an address for documentation (RFC 5737): whatever the default route is */
    to.sin_addr.s_addr = htonl (0xc0000201);
    to.sin_port = htons (9);
    if (find_route ((struct sockaddr *)&to, sizeof (to), a) == 0)
        return 0;
    return find_interface (NULL, a);
}

static void show (const struct address *a, char text[ADDRESS_SIZE])
{
    char host[64];
    char port[8];

    if (getnameinfo ((const struct sockaddr *)&a->addr,
                     a->len,
                     host,
                     sizeof (host),
                     port,
                     sizeof (port),
                     NI_NUMERICHOST | NI_NUMERICSERV)
        != 0)
        host[0] = port[0] = '\0';
    snprintf (text, ADDRESS_SIZE, a->addr.ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
}

int address_listen (struct bcast *b, const char *interface, char text[ADDRESS_SIZE], struct fault *f)
{
    struct address a;
    int fd = -1;

    if (interface) {
        if (find_interface (interface, &a) < 0)
            return fault_set (f,
                              ENODEV,
                              b->rank,
                              "interface %s: there is no such interface with an address that is up; "
                              "'ip -brief address' lists them",
                              interface);
    }
    else if (find_parent_route (b, &a) < 0 && find_endpoint (b, &a) < 0 && find_default (b, &a) < 0)
        return fault_set (f,
                          EADDRNOTAVAIL,
                          b->rank,
                          "no network interface has an address: name one with tree-bcast.interface=");
    if (a.addr.ss_family == AF_INET)
        ((struct sockaddr_in *)&a.addr)->sin_port = 0;
    else
        ((struct sockaddr_in6 *)&a.addr)->sin6_port = 0;
    if ((fd = socket (a.addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0)) < 0
        || bind (fd, (struct sockaddr *)&a.addr, a.len) < 0 || listen (fd, SOMAXCONN) < 0
        || getsockname (fd, (struct sockaddr *)&a.addr, &a.len) < 0) {
        int errnum = errno;

        if (fd >= 0)
            close (fd);
        show (&a, text);
        return fault_set (f, errnum, b->rank, "cannot listen on %s: %s", text, strerror (errnum));
    }
    show (&a, text);
    return fd;
}
