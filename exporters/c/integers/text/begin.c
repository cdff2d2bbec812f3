#include <string.h>

/* What every layer sent, for whoever defines NET_TRACE; without it, no code. */
#ifdef NET_TRACE
#define NET_SEE(layer, i, sent) (s->trace.layer[i] = (sent))
#else
#define NET_SEE(layer, i, sent) ((void)0)
#endif

/* Asks for what will be read soon. It also keeps GCC's -O3 from exchanging the loops around it, which would read weights
   column by column; where processors cannot be asked, it is nothing more. */
#ifndef NET_PREFETCH
#if defined(__GNUC__)
#define NET_PREFETCH(place) __builtin_prefetch(place)
#else
#define NET_PREFETCH(place) ((void)(place))
#endif
#endif
