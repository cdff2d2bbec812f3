/* What Python calls: many samples and many steps at once. All samples work in the room of the first. */
#ifdef NET_TRACE
#define GLUE(name) glue_traced_##name
#define net_reset glue_traced_reset
#define net_step glue_traced_step
#else
#define GLUE(name) glue_##name
#endif

#include "@NETWORK@"

const int64_t GLUE(layout)[] = {
    (int64_t)sizeof(net_state), /*OFFSETS*/
};

/* x: (steps, batch, inputs), y: (steps, batch, outputs). */
void GLUE(run)(net_state *s, int64_t steps, int64_t batch, const int16_t *x, int32_t *y) {
    for (int64_t row = 0; row < steps * batch; row++) {
        net_layers(s + row % batch, &s->work, x + row * NET_INPUTS, y + row * NET_OUTPUTS);
    }
}
