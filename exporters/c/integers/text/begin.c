#include <string.h>

/* What every layer sent, for whoever defines NET_TRACE; without it, no code. */
#ifdef NET_TRACE
#define NET_SEE(layer, i, sent) (s->trace.layer[i] = (sent))
#else
#define NET_SEE(layer, i, sent) ((void)0)
#endif

/* Asks for what will be read soon, where processors can be asked. */
#ifndef NET_PREFETCH
#if defined(__GNUC__) && (defined(__x86_64__) || defined(__i386__) || defined(__aarch64__))
#define NET_PREFETCH(place) __builtin_prefetch(place)
#else
#define NET_PREFETCH(place) ((void)(place))
#endif
#endif
