#include <string.h>

/* What every layer sent, for whoever compiles with -DNET_TRACE; without it, no code. */
#ifdef NET_TRACE
#define NET_SEE(layer, i, sent) (s->trace.layer[i] = (sent))
#else
#define NET_SEE(layer, i, sent) ((void)0)
#endif
