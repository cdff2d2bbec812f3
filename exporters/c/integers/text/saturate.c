/* States have 24 bits, sign included, and saturate. */
static int32_t net_saturate(int32_t x) {
    return x > 8388607 ? 8388607 : x < -8388607 ? -8388607 : x;
}
