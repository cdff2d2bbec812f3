/* x / 2^shift, rounded down: C leaves open what a shift makes of a negative number. */
static int32_t net_floor(int32_t x, int32_t shift) {
    return x < 0 ? -1 - ((-1 - x) >> shift) : x >> shift;
}
