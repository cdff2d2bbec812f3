void net_reset(net_state *s, const float *weights) {
    memset(s, 0, offsetof(net_state, work));
    s->weights = weights;
}
