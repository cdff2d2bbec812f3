int net_step(net_state *s, const float *x, float *y) {
    net_layers(s, &s->work, x, y);
    return NET_OK;
}
