/* The places of the input's spikes; returns how many there are. */
static int32_t net_read_spikes(net_work *w, const int16_t *x) {
    int32_t count = 0;
    for (int32_t i = 0; i < NET_INPUTS; i++) {
        w->places[count] = (net_place)i;
        count += x[i] > 0;
    }
    return count;
}
