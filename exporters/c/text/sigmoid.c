/* The number of these bits. */
static inline float net_number(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* 1 / (1 + exp(-x)), off by less than 1e-7 (1.6 units of 2**-24) everywhere; without branches, so it is vectorised.
   exp(d) = 2**n exp(s), n = round(d / ln 2), s = d - n ln 2 in two parts, and exp(s) a polynomial of degree 7 with the
   coefficients of SLEEF's expf (Shibata and Petrogalli, IEEE TPDS 31, 2020). What is no number stays none. */
static inline float net_sigmoid(float x) {
    const float low = -x < -87.0f ? -87.0f : -x;
    const float d = low > 88.0f ? 88.0f : low;
    const float shifted = d * 1.44269504f + 12582912.0f; /* 1.5 * 2**23: n is in the last bits of the sum */
    const float n = shifted - 12582912.0f;
    const float s = (d - n * 0.693145751953125f) - n * 1.42860677e-6f;
    float u = 0.000198527617612853646f;
    u = u * s + 0.00139304355252534151f;
    u = u * s + 0.00833336077630519867f;
    u = u * s + 0.0416664853692054749f;
    u = u * s + 0.1666666716337204f;
    u = 1.0f + (s + s * s * (u * s + 0.5f));
    const float e = net_number(net_bits(u) + (net_bits(shifted) << 23)); /* u * 2**n */
    const float y = 1.0f / (1.0f + e);
    return x != x ? x : y;
}
