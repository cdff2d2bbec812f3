void net_reset(net_state *s) {
    memset(s, 0, offsetof(net_state, work));
}

int net_step(net_state *s, const float *x, float *y) {
    net_layers(s, &s->work, x, y);
    return NET_OK;
}
