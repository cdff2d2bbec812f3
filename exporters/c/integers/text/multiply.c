/* x * factor / 4096, rounded towards zero as C divides; in two parts, neither of which leaves 32 bits:
   |x| < 2^23, |factor| <= 4096. */
static int32_t net_multiply(int32_t x, int32_t factor) {
    return x / 4096 * factor + x % 4096 * factor / 4096;
}
