/* Where e * slope / 2^shift lies among the knots of the sigmoid, an argument in 1/1024, rounded down: 0 .. 16383.
   The product has up to 37 bits. */
static int32_t net_argument_wide(int32_t e, int32_t slope, int32_t shift) {
    const int64_t product = (int64_t)e * slope;
    const int64_t z = product < 0 ? -1 - ((-1 - product) >> shift) : product >> shift;
    return (z < -8192 ? -8192 : z > 8191 ? 8191 : (int32_t)z) + 8192;
}
