/* The places of the numbers that are not 0, in rising order; returns how many there are. Whole numbers are compared
   faster: without its sign, a 0 has no bits. */
static int net_active(int *restrict places, const float *restrict x, int size) {
    int count = 0;
    for (int i = 0; i < size; i++) {
        places[count] = i;
        count += net_bits(x[i]) << 1 != 0;
    }
    return count;
}

/* y += x[k] * rows[k] for `count` places k, one row after the other: the order of the sums is that of the places.
   Four rows at a time, so that y is read and written less often, while the next four are on their way. */
static void net_add_rows(float *restrict y, int size, const float *restrict rows, const float *restrict x,
                         const int *restrict places, int count) {
    int k = 0;
    for (; k + 4 <= count; k += 4) {
        const int *p = places + k, *next = k + 8 <= count ? p + 4 : p;
        const float *a = rows + p[0] * size, *b = rows + p[1] * size, *c = rows + p[2] * size, *d = rows + p[3] * size;
        const float *e = rows + next[0] * size, *f = rows + next[1] * size;
        const float *g = rows + next[2] * size, *h = rows + next[3] * size;
        const float u = x[p[0]], v = x[p[1]], q = x[p[2]], r = x[p[3]];
        int i = 0;
        for (; i + 16 <= size; i += 16) {
            NET_PREFETCH(e + i);
            NET_PREFETCH(f + i);
            NET_PREFETCH(g + i);
            NET_PREFETCH(h + i);
            for (int j = i; j < i + 16; j++) {
                y[j] = y[j] + u * a[j] + v * b[j] + q * c[j] + r * d[j];
            }
        }
        for (; i < size; i++) {
            y[i] = y[i] + u * a[i] + v * b[i] + q * c[i] + r * d[i];
        }
    }
    for (; k < count; k++) {
        const float *a = rows + places[k] * size;
        const float u = x[places[k]];
        for (int i = 0; i < size; i++) {
            y[i] = y[i] + u * a[i];
        }
    }
}
