/* The 32 bits of a number. */
static inline uint32_t net_bits(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}
