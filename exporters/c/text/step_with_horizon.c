int net_step(net_state *s, const float *x, float *y) {
    if (s->step >= NET_HORIZON) {
        return NET_PAST_HORIZON;
    }
    net_layers(s, &s->work, x, y);
    return NET_OK;
}
