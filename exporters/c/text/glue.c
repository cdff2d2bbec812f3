/* What Python calls: many samples and many steps at once, and whether the numbers stayed finite. */
#ifdef NET_TRACE
#define GLUE(name) glue_traced_##name
#define net_reset glue_traced_network_reset
#define net_step glue_traced_network_step
#else
#define GLUE(name) glue_##name
#endif

#include "@NETWORK@"

#ifndef NET_HORIZON
#define NET_HORIZON 0
#endif

#ifndef NET_WEIGHTS
#define NET_WEIGHTS 0
#endif

/* What the sources are, to be held against what they say of themselves; then where each member begins, and its bytes. */
#define GLUE_MEMBER(name) (int64_t)offsetof(net_state, name), (int64_t)sizeof(((net_state *)0)->name)
const int64_t GLUE(layout)[] = {
    (int64_t)sizeof(net_state), NET_INPUTS, NET_OUTPUTS, NET_LATENCY, NET_HORIZON, NET_WEIGHTS, /*MEMBERS*/
};

/* Whether all numbers are finite: an exponent of ones alone is none. */
static int glue_finite(const float *x, int64_t count) {
    uint32_t bad = 0;
    for (int64_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, x + i, sizeof bits);
        bad |= (bits & 0x7f800000u) == 0x7f800000u;
    }
    return !bad;
}

/* x: (steps, batch, inputs), y: (steps, batch, outputs). Returns how many steps it took: fewer where something is not
   finite after the last of them. All samples work in the room of the first. */
int64_t GLUE(run)(net_state *s, int64_t steps, int64_t batch, const float *x, float *y) {
    for (int64_t t = 0; t < steps; t++) {
        int fine = 1;
        for (int64_t b = 0; b < batch; b++) {
            const int64_t row = t * batch + b;
            net_layers(s + b, &s->work, x + row * NET_INPUTS, y + row * NET_OUTPUTS);
            fine &= glue_finite(y + row * NET_OUTPUTS, NET_OUTPUTS);
            fine &= glue_finite((const float *)(const void *)((const char *)(s + b) + @FIRST@), @NUMBERS@);
        }
        if (!fine) {
            return -1 - t;
        }
    }
    return steps;
}

/* One step, or GLUE_REFUSED if x is not finite: then nothing has changed. */
enum { GLUE_REFUSED = -2 };

int64_t GLUE(step)(net_state *s, int64_t batch, const float *x, float *y) {
    return glue_finite(x, batch * NET_INPUTS) ? GLUE(run)(s, 1, batch, x, y) : GLUE_REFUSED;
}
