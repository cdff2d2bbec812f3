/* 4096 sigmoid(z), z from -8 to 8 in steps of 1/4. */
static const int16_t net_knots[65] = {
    /*KNOTS*/
};

/* 4096 times the sigmoid at a place among the knots, 256 between two of them: straight from one to the next. */
static int32_t net_sigmoid(int32_t place) {
    const int16_t *const knot = net_knots + place / 256;
    return knot[0] + (knot[1] - knot[0]) * (place % 256) / 256;
}
