/* A sigmoid in whole numbers: integer_sigmoid(floor(1024 x)) / 4096, straight between 65 knots. */
static const int net_knots[65] = {
    /*KNOTS*/
};

static inline float net_sigmoid_table(float x) {
    const float z = floorf(x * 1024.0f);
    const float low = z < -8192.0f ? -8192.0f : z;
    const float inside = low > 8191.0f ? 8191.0f : low;
    const int u = x != x ? 0 : (int)inside + 8192;
    const int piece = u >> 8, along = u & 255;
    const int value = net_knots[piece] + (((net_knots[piece + 1] - net_knots[piece]) * along) >> 8);
    return x != x ? x : (float)value / 4096.0f;
}
