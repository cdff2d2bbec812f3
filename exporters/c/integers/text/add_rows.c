/* sums += rows[k] for `count` places k: what spiked has a row of weights, four of them at a time. */
static void net_add_rows(net_sum *sums, int32_t size, const int8_t *rows, const net_place *places, int32_t count) {
    int32_t k = 0;
    for (; k + 4 <= count; k += 4) {
        const int8_t *const a = rows + places[k] * size, *const b = rows + places[k + 1] * size;
        const int8_t *const c = rows + places[k + 2] * size, *const d = rows + places[k + 3] * size;
        for (int32_t i = 0; i < size; i++) {
            sums[i] += a[i] + b[i] + c[i] + d[i];
        }
    }
    for (; k < count; k++) {
        const int8_t *const a = rows + places[k] * size;
        for (int32_t i = 0; i < size; i++) {
            sums[i] += a[i];
        }
    }
}
