/* saturate(x / 2^shift), rounded towards zero. 64 bits: a product of two states' worth of bits. */
static int32_t net_shifted_wide(int64_t x, int32_t shift) {
    const int64_t y = x < 0 ? -(-x >> shift) : x >> shift;
    return y > 8388607 ? 8388607 : y < -8388607 ? -8388607 : (int32_t)y;
}
