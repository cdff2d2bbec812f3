/* (places, channels) -> (channels, places), sixteen places at a time: those stay in the first cache. */
static void net_channels_first(float *restrict y, const float *restrict sums, int channels, int places) {
    for (int start = 0; start < places; start += 16) {
        const int end = start + 16 < places ? start + 16 : places;
        for (int c = 0; c < channels; c++) {
            for (int q = start; q < end; q++) {
                y[c * places + q] = sums[q * channels + c];
            }
        }
    }
}
