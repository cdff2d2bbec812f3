/* Where e * slope / 2^shift lies among the knots of the sigmoid, an argument in 1/1024, rounded down: 0 .. 16383.
   The product has up to 37 bits, so it is made in two parts of 12 and of 25: for shifts of 12 and more. */
static int32_t net_argument(int32_t e, int32_t slope, int32_t shift) {
    const int32_t low = e & 4095, high = (e - low) / 4096;
    const int32_t product = high * slope + net_floor(low * slope, 12);
    const int32_t z = net_floor(product, shift - 12);
    return (z < -8192 ? -8192 : z > 8191 ? 8191 : z) + 8192;
}
