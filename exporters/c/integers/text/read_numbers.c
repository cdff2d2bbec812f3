/* The input's numbers that are not zero, cut to their code, and their places; returns how many there are. */
static int32_t net_read_numbers(net_work *w, const int16_t *x) {
    int32_t count = 0;
    for (int32_t i = 0; i < NET_INPUTS; i++) {
        const int32_t value = x[i] < NET_INPUT_LOW ? NET_INPUT_LOW : x[i] > NET_INPUT_HIGH ? NET_INPUT_HIGH : x[i];
        if (value != 0) {
            w->places[count] = (net_place)i;
            w->values[count++] = value;
        }
    }
    return count;
}
