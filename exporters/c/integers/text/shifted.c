/* saturate(x / 2^shift), rounded towards zero. */
static int32_t net_shifted(int32_t x, int32_t shift) {
    return net_saturate(x < 0 ? -(-x >> shift) : x >> shift);
}
