/* What Python calls: many samples and many steps at once. All samples work in the room of the first. */
#ifdef NET_TRACE
#define GLUE(name) glue_traced_##name
#define net_reset glue_traced_reset
#define net_step glue_traced_step
#else
#define GLUE(name) glue_##name
#endif

#include "@NETWORK@"

#ifndef NET_HORIZON
#define NET_HORIZON 0
#endif

/* What the sources are, to be held against what they say of themselves; then where what a layer sent begins, and its
   bytes. */
#define GLUE_MEMBER(name) (int64_t)offsetof(net_state, trace.name), (int64_t)sizeof(((net_state *)0)->trace.name)
const int64_t GLUE(layout)[] = {
    (int64_t)sizeof(net_state), NET_INPUTS, NET_OUTPUTS, NET_INPUT_LOW, NET_INPUT_HIGH, NET_HORIZON, /*MEMBERS*/
};

/* x: (steps, batch, inputs), y: (steps, batch, outputs). */
void GLUE(run)(net_state *s, int64_t steps, int64_t batch, const int16_t *x, int32_t *y) {
    for (int64_t row = 0; row < steps * batch; row++) {
        net_layers(s + row % batch, &s->work, x + row * NET_INPUTS, y + row * NET_OUTPUTS);
    }
}
