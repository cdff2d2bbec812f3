void net_reset(net_state *s) {
    memset(s, 0, offsetof(net_state, work));
}

int net_step(net_state *s, const int16_t *x, int32_t *y) {
    if (s->step >= NET_HORIZON) {
        return NET_PAST_HORIZON;
    }
    net_layers(s, &s->work, x, y);
    return NET_OK;
}
