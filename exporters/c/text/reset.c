void net_reset(net_state *s) {
    memset(s, 0, offsetof(net_state, work));
}
