/* h**5 modulo the prime 2**31 - 1. */
static inline int64_t net_fifth_power(int64_t h) {
    const int64_t square = h * h % 2147483647;
    return square * square % 2147483647 * h % 2147483647;
}

/* A number in [0, 1) that depends on seed, step and number of the neuron alone. */
static inline float net_uniform(int64_t seed, int64_t step, int64_t neuron) {
    const int64_t keys[5] = {0x3C6EF372, step % 2147483647, 0x1B873593, seed, 0x27D4EB2F};
    int64_t h = neuron % 2147483647;
    for (int i = 0; i < 5; i++) {
        h = net_fifth_power((h + keys[i]) % 2147483647);
    }
    return (float)(h >> 7) * 0x1p-24f;
}
