/* sums += rows[k] for `count` places k: what spiked has a row of weights. The sum of 256 rows has 16 bits, which is a
   quarter of the work of 32: so many are added apart, six rows at a time. Of each of the next six the beginning is
   asked for; what follows it, processors fetch by themselves. */
static void net_add_rows(net_sum *restrict sums, int32_t size, const int8_t *restrict rows,
                         const net_place *restrict places, int32_t count) {
    enum { SHORT = 256, AT_ONCE = 256 };
    int16_t part[AT_ONCE];
    for (int32_t first = 0; first < count; first += SHORT) {
        const int32_t last = first + SHORT < count ? first + SHORT : count;
        for (int32_t start = 0; start < size; start += AT_ONCE) {
            const int32_t width = start + AT_ONCE < size ? AT_ONCE : size - start;
            int32_t k = first;
            memset(part, 0, (size_t)width * sizeof *part);
            for (; k + 6 <= last; k += 6) {
                const net_place *const p = places + k, *const next = k + 12 <= last ? p + 6 : p;
                const int8_t *const a = rows + p[0] * size + start, *const b = rows + p[1] * size + start;
                const int8_t *const c = rows + p[2] * size + start, *const d = rows + p[3] * size + start;
                const int8_t *const e = rows + p[4] * size + start, *const f = rows + p[5] * size + start;
                for (int32_t j = 0; j < 6; j++) {
                    NET_PREFETCH(rows + next[j] * size + start);
                }
                for (int32_t i = 0; i < width; i++) {
                    part[i] = (int16_t)(part[i] + a[i] + b[i] + c[i] + d[i] + e[i] + f[i]);
                }
            }
            for (; k < last; k++) {
                const int8_t *const a = rows + places[k] * size + start;
                for (int32_t i = 0; i < width; i++) {
                    part[i] = (int16_t)(part[i] + a[i]);
                }
            }
            for (int32_t i = 0; i < width; i++) {
                sums[start + i] += part[i];
            }
        }
    }
}
