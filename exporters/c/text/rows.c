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
   Four rows at a time, so that y is read and written less often. Of each of the next four the beginning is asked for;
   what follows it, processors fetch by themselves. */
static void net_add_rows(float *restrict y, int size, const float *restrict rows, const float *restrict x,
                         const int *restrict places, int count) {
    int k = 0;
    for (; k + 4 <= count; k += 4) {
        const int *p = places + k, *next = k + 8 <= count ? p + 4 : p;
        const float *a = rows + p[0] * size, *b = rows + p[1] * size, *c = rows + p[2] * size, *d = rows + p[3] * size;
        const float u = x[p[0]], v = x[p[1]], q = x[p[2]], r = x[p[3]];
        for (int n = 0; n < 4; n++) {
            NET_PREFETCH(rows + next[n] * size);
        }
        for (int i = 0; i < size; i++) {
            y[i] = y[i] + u * a[i] + v * b[i] + q * c[i] + r * d[i];
        }
    }
    if (k + 2 <= count) {
        const float *a = rows + places[k] * size, *b = rows + places[k + 1] * size;
        const float u = x[places[k]], v = x[places[k + 1]];
        for (int i = 0; i < size; i++) {
            y[i] = y[i] + u * a[i] + v * b[i];
        }
        k += 2;
    }
    if (k < count) {
        const float *a = rows + places[k] * size;
        const float u = x[places[k]];
        for (int i = 0; i < size; i++) {
            y[i] = y[i] + u * a[i];
        }
    }
}
