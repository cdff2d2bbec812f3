/* 4096 sigmoid(z), z from -8 to 8 in steps of 1/4. */
static const int16_t net_knots[65] = {
    /*KNOTS*/
};

/* The sigmoid of e * slope / 2^shift, an argument in 1/1024, in 1/4096: straight between the knots. The product has
   up to 37 bits, and its shift rounds down. */
static int32_t net_sigmoid(int32_t e, int32_t slope, int32_t shift) {
    const int64_t product = (int64_t)e * slope;
    const int64_t z = product < 0 ? -1 - ((-1 - product) >> shift) : product >> shift;
    const int32_t u = (z < -8192 ? -8192 : z > 8191 ? 8191 : (int32_t)z) + 8192;
    const int16_t *const knot = net_knots + (u >> 8);
    return knot[0] + (knot[1] - knot[0]) * (u & 255) / 256;
}
