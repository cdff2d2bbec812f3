#include <float.h>
#include <limits.h>
#include <math.h>
#include <string.h>

#if INT_MAX < 2147483647
#error "the places of numbers are counted in int, which needs 32 bits"
#endif

#ifdef __FAST_MATH__
#error "-ffast-math lets the compiler reorder sums and forget NaN: leave it out"
#endif

#if defined(FLT_EVAL_METHOD) && FLT_EVAL_METHOD != 0 && FLT_EVAL_METHOD != 16
#error "float must be computed as float: on x86 of 32 bits that takes -msse2 -mfpmath=sse"
#endif

/* Every product and every sum is rounded on its own. GCC does not know this pragma: give it -ffp-contract=off. */
#if !defined(__GNUC__) || defined(__clang__)
#pragma STDC FP_CONTRACT OFF
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

/* What a neuron decided and why, for whoever defines NET_TRACE; without it, no code. */
#ifdef NET_TRACE
#define NET_SEE(layer, v, r, m) \
    (s->trace.layer##_S[i] = y[i], s->trace.layer##_V[i] = (v), s->trace.layer##_R[i] = (r), \
     s->trace.layer##_margin[i] = (m))
#else
#define NET_SEE(layer, v, r, m) ((void)s)
#endif
