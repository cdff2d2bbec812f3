/* sums += rows[k] for `count` places k: what spiked has a row of weights. Eight rows at a time, whose sum has 16 bits,
   while the next eight are on their way. */
static void net_add_rows(net_sum *restrict sums, int32_t size, const int8_t *restrict rows,
                         const net_place *restrict places, int32_t count) {
    int32_t k = 0;
    for (; k + 8 <= count; k += 8) {
        const net_place *const p = places + k, *const next = k + 16 <= count ? p + 8 : p;
        const int8_t *const a = rows + p[0] * size, *const b = rows + p[1] * size;
        const int8_t *const c = rows + p[2] * size, *const d = rows + p[3] * size;
        const int8_t *const e = rows + p[4] * size, *const f = rows + p[5] * size;
        const int8_t *const g = rows + p[6] * size, *const h = rows + p[7] * size;
        int32_t i = 0;
        for (; i + 64 <= size; i += 64) {
            for (int32_t j = 0; j < 8; j++) {
                NET_PREFETCH(rows + next[j] * size + i);
            }
            for (int32_t j = i; j < i + 64; j++) {
                sums[j] += (int16_t)(a[j] + b[j] + c[j] + d[j] + e[j] + f[j] + g[j] + h[j]);
            }
        }
        for (; i < size; i++) {
            sums[i] += (int16_t)(a[i] + b[i] + c[i] + d[i] + e[i] + f[i] + g[i] + h[i]);
        }
    }
    for (; k < count; k++) {
        const int8_t *const a = rows + places[k] * size;
        for (int32_t i = 0; i < size; i++) {
            sums[i] += a[i];
        }
    }
}
