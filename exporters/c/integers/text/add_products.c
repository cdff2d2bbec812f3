/* sums += values[k] * rows[places[k]] for `count` numbers that are not zero. */
static void net_add_products(net_sum *sums, int32_t size, const int8_t *rows, const net_place *places,
                             const int32_t *values, int32_t count) {
    for (int32_t k = 0; k < count; k++) {
        const int8_t *const row = rows + places[k] * size;
        const int32_t value = values[k];
        for (int32_t i = 0; i < size; i++) {
            sums[i] += value * row[i];
        }
    }
}
